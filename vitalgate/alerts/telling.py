"""Alert events made from the steps of the engine."""

from __future__ import annotations

from typing import Any

from vitalgate.alerts import codes
from vitalgate.alerts.conditions import Flagged, Threshold
from vitalgate.alerts.corrections import message_name
from vitalgate.alerts.events import AlertEvent, State, Strip, alert_id, event_id, sentence, when
from vitalgate.alerts.machine import NEVER, Term
from vitalgate.alerts.patient import Known, Patient, Step
from vitalgate.alerts.profile import Variant
from vitalgate.alerts.roster import Roster
from vitalgate.alerts.rule import Rule

#: Detected later than this after the detecting value's time: told in hindsight.
HINDSIGHT_US = 300 * 1_000_000
#: Stands in the place of an epoch number: a feature comes with no device message.
FEATURE = -1
#: Steps that people are to be told of, unless the alert is silenced or suppressed.
ALOUD = frozenset({"raised", "again", "escalated", "released", "unsilenced"})
STRIP_S = 10
STRIP_BEFORE_S = 3


def make(
    patient: Patient,
    step: Step,
    rule: Rule | None,
    team: str,
    roster: Roster | None,
    received_us: int,
    detected_us: int,
) -> AlertEvent:
    """The event of a step, with how the alert stands after it.

    Parameters
    ----------
    rule
        The rule as shipped, when the patient's book does not have it any more; None when nobody has.
    received_us
        Arrival of the item that led to it; 0 when it was none.
    """
    known = step.known
    alert = alert_id(patient.name, step.rule, known.onset)
    variant = patient.book.variant_at(step.rule, known.onset)
    arrived = received_us or (known.received_us if step.happened not in ("raised", "cleared", "retracted") else 0)
    common: dict[str, Any] = {
        "event_id": event_id(alert, known.number, step.happened),
        "alert_id": alert,
        "number": known.number,
        "patient": patient.name,
        "team": team,
        "rule": step.rule,
        "state": state_of(known, step.happened),
        "onset": when(known.onset),
        "detected_at": when(detected_us),
        "cleared_at": None if known.state == "raised" or known.end is None else when(known.end),
        "received_at": when(arrived) if arrived else None,
        "reason": step.reason,
        "replaces": "" if step.replaces is None else alert_id(patient.name, step.rule, step.replaces),
        "replaced_by": "" if step.replaced_by is None else alert_id(patient.name, step.rule, step.replaced_by),
        "evidence": [message_name(patient, ref) for ref in known.evidence if ref.epoch != FEATURE],
        "device_id": patient.sources.names[known.evidence[-1].source][0] if known.evidence else "",
        **_care(patient, step, roster, detected_us),
    }
    made = variant.rule if variant is not None else rule
    terms = variant.terms if variant is not None else ()
    term = next((t for t in terms if t.number == known.term), None)
    if made is None or (term is None and known.term >= len(made.when)):
        return AlertEvent(
            **common, rule_version=0, title=step.rule, kind="technical", priority="low", metric="",
            text=f"Taken back: rule {step.rule} is not in force any more",
        )  # fmt: skip
    return AlertEvent(**(common | _said(patient, step, made, variant, term, received_us)))


def state_of(known: Known, happened: str = "") -> State:
    """How an alert stands. What is over and waits for nothing is told as cleared, and closed from then on."""
    if known.state == "retracted":
        return "retracted"
    if known.state == "cleared":
        return "closed" if known.closed and happened != "cleared" else "cleared"
    if known.acknowledged_by:
        return "acknowledged"
    return "escalated" if known.level else "raised"


def _care(patient: Patient, step: Step, roster: Roster | None, detected_us: int) -> dict[str, Any]:
    """What people have done with the alert, and whom to tell."""
    known = step.known
    aloud = (
        step.happened in ALOUD and known.state == "raised" and not step.over
        and not (known.suppressed_by or known.silenced_until or known.acknowledged_by)
    )  # fmt: skip
    people: list[str] = []
    if aloud and roster is not None:
        rule = patient.book.rules.get(step.rule)
        rungs = roster.rungs(rule.priority) if rule is not None else ()
        target = rungs[known.level - 1][1] if 0 < known.level <= len(rungs) else "patient"
        people = roster.people(target, patient.name, when(detected_us))
    newest = max([known.detected, *(ref.time for ref in known.evidence)])
    return {
        "happened": step.happened, "closed": known.closed, "notify": aloud, "recipients": people,
        "escalation_level": known.level, "acknowledged_by": known.acknowledged_by,
        "acknowledged_at": when(known.acknowledged_us) if known.acknowledged_us else None,
        "silenced_until": when(known.silenced_until) if known.silenced_until else None,
        "silenced_by": known.silenced_by, "silence_reason": known.silence_reason, "suppressed_by": known.suppressed_by,
        "count": known.count, "comments": known.comments, "who": step.who, "comment": step.text,
        "age_s": max(0.0, round((detected_us - newest) / 1e6, 3)) if detected_us > 0 and newest != NEVER else None,
        "note": known.note,
    }  # fmt: skip


def _said(
    patient: Patient, step: Step, rule: Rule, variant: Variant | None, term: Term | None, received_us: int
) -> dict[str, Any]:
    """What the rule says of it."""
    known = step.known
    condition = rule.when[min(known.term, len(rule.when) - 1)]
    metric = "" if term is None else term.key.partition("/")[2]
    limit = condition.limit if term is None or term.kind == "band" else term.shown_limit
    if term is not None and term.kind == "band":
        metric = "news2"
    for_s = condition.for_s if isinstance(condition, Threshold | Flagged) else 0.0
    if term is not None and term.kind == "silent":
        for_s = term.gap_us / 1e6
    share = None
    if isinstance(condition, Threshold) and condition.share_of:
        share = 100 * condition.limit
    late = bool(received_us) and received_us - known.detected > HINDSIGHT_US
    filled = {
        "value": known.value, "unit": condition.unit, "limit": limit, "for_s": for_s, "note": known.note,
        "code": codes.word(metric, known.value), "share": share,
    }  # fmt: skip
    said: dict[str, Any] = {
        "rule_version": rule.version, "title": rule.title, "kind": rule.kind, "priority": rule.priority,
        "value": known.value, "unit": condition.unit, "limit": limit, "metric": metric, "latched": rule.latched,
        "hindsight": late or step.over, "text": sentence(rule, filled, step.happened, step.reason, step.who),
        "strip": _strip(patient, known),
    }  # fmt: skip
    return said | ({"device_id": known.note} if term is not None and term.kind == "silent" else {})


def _strip(patient: Patient, known: Known) -> Strip | None:
    """Where the ECG of a rhythm event is."""
    ref = next((ref for ref in known.evidence if ref.epoch == FEATURE), None)
    if ref is None:
        return None
    device, site = patient.sources.names[ref.source]
    recording, channel, _, rate = (*site.rsplit("|", 3), "", "", "")[:4]
    per_s, _, divided = rate.partition("/")
    if not per_s.isdigit() or not (divided or "1").isdigit():
        return None
    fs = int(per_s) / int(divided or "1")
    first = max(0, round(ref.index - STRIP_BEFORE_S * fs))
    return Strip(
        device_id=device, channel=channel, recording=recording, rate=rate, first_sample=first,
        stop_sample=first + round(STRIP_S * fs),
    )  # fmt: skip
