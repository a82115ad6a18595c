"""What happens to an alert besides its cause: acknowledged, silenced, escalated, suppressed, closed. Pure.

Timers are ticks: a time comes in as an argument. What is due is told once, however often it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from vitalgate.alerts.commands import Command
from vitalgate.alerts.machine import NEVER
from vitalgate.alerts.patient import Known, Patient, Step
from vitalgate.alerts.roster import Roster

#: Newest commands remembered per patient, so that a repeat is known as one.
COMMANDS = 256
#: A silence lasts no longer than this.
LONGEST_SILENCE_US = 24 * 3600 * 1_000_000


def advance(patient: Patient, now: int, roster: Roster | None) -> Iterator[Step]:
    """Tell what time and other alerts have brought to those that are not closed."""
    live = patient.live_alerts()
    for rule, known in live:
        if known.state == "raised" and rule in patient.book.rules:
            yield from _standing(patient, rule, known, now, roster)
        elif known.state == "cleared" and patient.may_close(rule, known, now):
            known.closed, known.number = True, known.number + 1
            yield Step(rule, known, "closed")


def _standing(patient: Patient, rule: str, known: Known, now: int, roster: Roster | None) -> Iterator[Step]:
    by = patient.suppressor(rule)
    if by != known.suppressed_by:
        happened = "released" if not by else "suppressed"
        was, known.suppressed_by = known.suppressed_by, by
        if happened == "released":
            known.told_us, known.level = now, 0
        if happened == "released" or not was:
            known.number += 1
            yield Step(rule, known, "released" if happened == "released" else "suppressed", by or f"{was} is over")
    if known.told_us == NEVER:
        known.told_us = now
    if known.silenced_until and now >= known.silenced_until:
        known.silenced_until, known.silence_reason, known.number = 0, "", known.number + 1
        by, known.silenced_by = known.silenced_by, ""
        yield Step(rule, known, "unsilenced", "the silence is over", who=by)
    if known.acknowledged_by or known.suppressed_by or known.silenced_until or roster is None or known.told_us == NEVER:
        return
    rungs = roster.rungs(patient.book.rules[rule].priority)
    due = sum(now >= known.told_us + after for after, _ in rungs)
    if due > known.level:
        known.level, known.number = due, known.number + 1
        yield Step(rule, known, "escalated", f"nobody answered; now to {rungs[due - 1][1]}")


def deadline(patient: Patient, now: int, roster: Roster | None) -> int | None:
    """When the next timer of this patient's alerts is due, us; NEVER for with the next tick; None when none is."""
    found: list[int] = []
    for rule, known in patient.live_alerts():
        made = patient.book.rules.get(rule)
        if made is None:
            continue
        if known.state == "cleared":
            if known.end is not None and (not made.latched or known.acknowledged_by):
                found.append(known.end + round(made.settle_s * 1_000_000))
            continue
        if known.told_us == NEVER:
            found.append(NEVER)
        if known.silenced_until:
            found.append(known.silenced_until)
        elif roster is not None and not known.acknowledged_by and not known.suppressed_by:
            rungs = roster.rungs(made.priority)
            if known.level < len(rungs):
                found.append(known.told_us + rungs[known.level][0])
    return min(found, default=None)


def obey(
    patient: Patient, command: Command, target: tuple[str, Known] | None, now: int, detected_us: int
) -> Iterator[Step]:
    """Do what a command says, once; when all steps are taken the answer is in ``patient.commands``.

    Parameters
    ----------
    target
        Rule and alert that are meant; None when there is no such alert.
    now
        The newest tick, us.
    """
    if command.command_id in patient.commands:
        return
    fault = _fault(command, target, detected_us if now == NEVER else now)
    if target is not None and not fault:
        yield from _do(patient, command, *target, now)
    number = "0" if target is None else str(target[1].number)
    patient.commands[command.command_id] = ["refused" if fault else "done", fault, number]
    while len(patient.commands) > COMMANDS:
        patient.commands.pop(next(iter(patient.commands)))
    patient.dirty = True


def _fault(command: Command, target: tuple[str, Known] | None, now: int) -> str:
    if target is None:
        return (
            f"patient {command.patient} has no alert {command.alert_id}; `vitalgate alerts list` shows those there are"
        )
    known = target[1]
    if known.state == "retracted":
        return "the alert has been taken back: its cause was corrected away"
    if command.action == "comment":
        return ""
    if known.closed:
        return "the alert is closed; there is nothing left to answer, but a comment can be added"
    if command.action == "acknowledge" and known.acknowledged_by:
        return f"{known.acknowledged_by} has acknowledged it already"
    if command.action == "unsilence" and not known.silenced_until:
        return "the alert is not silenced"
    if command.action == "silence" and command.until is not None:
        until = round(command.until.timestamp() * 1e6)
        if until <= now:
            return f"the silence would end at {command.until.isoformat()}, which is over; give a later time"
        if until > now + LONGEST_SILENCE_US:
            return f"the silence would end at {command.until.isoformat()}; it lasts 24 hours at most"
    return ""


def _do(patient: Patient, command: Command, rule: str, known: Known, now: int) -> Iterator[Step]:
    known.number += 1
    if command.action == "acknowledge":
        known.acknowledged_by, known.acknowledged_us = command.who, round(command.at.timestamp() * 1e6)
        yield Step(rule, known, "acknowledged", who=command.who, text=command.text)
        if known.state == "cleared" and patient.may_close(rule, known, now):
            known.closed, known.number = True, known.number + 1
            yield Step(rule, known, "closed")
    elif command.action == "silence":
        assert command.until is not None
        known.silenced_until, known.silenced_by = round(command.until.timestamp() * 1e6), command.who
        known.silence_reason = command.reason
        yield Step(rule, known, "silenced", command.reason, who=command.who)
    elif command.action == "unsilence":
        known.silenced_until, known.silenced_by, known.silence_reason = 0, "", ""
        yield Step(rule, known, "unsilenced", "by hand", who=command.who)
    else:
        known.comments += 1
        yield Step(rule, known, "commented", who=command.who, text=command.text)
