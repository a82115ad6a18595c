"""What a notification says, by how much its destination may be told. Pure.

By default (`none`): that there is an alert, how pressing, since when it is known, and a reference by which whoever may
see more finds it. Not of whom, not in which team (its name may tell what somebody suffers from), and nothing measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitalgate.alerts.events import when
from vitalgate.alerts.rule import number
from vitalgate.handover.destinations import FAILED_RULE, Detail
from vitalgate.handover.memory import Delivery

TYPE = "alert.notification"
#: Digits of an alert id that a person is given; `vitalgate alerts show` takes the beginning of one.
REFERENCE = 8


@dataclass(frozen=True)
class Notice:
    """One notification, ready to be sent.

    Attributes
    ----------
    id
        Idempotency key: the same in every attempt.
    subject, text
        For people.
    document
        For programs; has all of it.
    urgent
        Of high priority.
    """

    id: str
    subject: str
    text: str
    document: dict[str, Any]
    urgent: bool


def notice(one: Delivery, patient: str, detail: Detail, link: str = "", over: bool = False) -> Notice:
    """What is said of a delivery.

    Parameters
    ----------
    link
        Put at the end, with ``{alert_id}`` filled in; '' for none.
    over
        Its alarms are over by now.
    """
    group, event = one.group, one.group.event
    first = event["alert_id"]
    subject = _subject(one, patient, detail)
    level = int(event.get("escalation_level") or 0)
    lines = [f"{subject}{'' if subject.endswith('.') else '.'}"]
    if level:
        lines.append(f"Nobody has answered it so far (escalation step {level}).")
    if event["rule"] == FAILED_RULE:
        lines.append("An earlier alert of high priority could not be handed over somewhere.")
    if over:
        lines.append("It is over by now; this was not delivered earlier.")
    data: dict[str, Any] = {
        "priority": group.priority, "count": group.count, "alert_ids": list(group.alerts), "alert_id": first,
        "detected_at": _text(group.detected), "escalation_level": level, "over": over, "detail": detail,
    }  # fmt: skip
    if detail != "none":
        data |= {"patient": patient, "team": group.team}
    if detail == "clinical":
        lines.append(_clinical(event))
        others = [title for title in group.titles if title != event["title"]]
        if others:
            lines.append(f"Also: {', '.join(others)}.")
        data |= {name: event[name] for name in (
            "rule", "title", "kind", "text", "onset", "value", "unit", "limit", "metric", "hindsight"
        )}  # fmt: skip
        data["titles"] = list(group.titles)
    lines.append(f"Known since {_text(group.detected)}. Reference {first[:REFERENCE]}.")
    if link:
        data["link"] = link.format(alert_id=first)
        lines.append(data["link"])
    text = "\n".join(lines)
    document = {"id": one.id, "type": TYPE, "timestamp": _text(one.created), "text": text, "data": data}
    return Notice(one.id, subject, text, document, one.high)


def test_notice(name: str, identity: str, at_us: int) -> Notice:
    """What `vitalgate handover test` sends: about nobody."""
    text = f"This is a test of the destination {name} of Vitalgate's alert hand-over. No patient is concerned."
    document = {
        "id": identity, "type": "test", "timestamp": _text(at_us), "text": text,
        "data": {"priority": "low", "count": 1, "alert_ids": [], "detail": "none"},
    }  # fmt: skip
    return Notice(identity, "Test of the alert hand-over", text, document, False)


def _subject(one: Delivery, patient: str, detail: Detail) -> str:
    group = one.group
    of = "" if detail == "none" else f" of patient {patient}"
    if group.count == 1:
        article = {"high": "A high", "medium": "A medium", "low": "A low"}[group.priority]
        return f"{article}-priority alert{of} needs attention"
    return f"{group.count} alerts{of}, the highest of {group.priority} priority, need attention"


def _clinical(event: dict[str, Any]) -> str:
    value = event.get("value")
    said = f"{event['title']}: {event['text']}"
    limit = event.get("limit")
    if value is not None and limit is not None:
        said += f" (value {number(value)}, limit {number(limit)} {event['unit'] or ''}".rstrip() + ")"
    return said


def _text(us: int) -> str:
    return when(us - us % 1_000_000).isoformat().replace("+00:00", "Z")
