"""The notifications of one patient: which alert events make them, when they go, and what becomes of them. Pure.

Time is an argument (us since 1970). Whatever changes the memory also says so in records of alert.deliveries, which
`drain` hands out once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vitalgate.alerts.events import when
from vitalgate.alerts.grouping import Window, after, place, pressing
from vitalgate.handover.backoff import pause_us
from vitalgate.handover.delivery import AlertDelivery, Step, delivery_id
from vitalgate.handover.destinations import FAILED_RULE, Destination
from vitalgate.handover.memory import Delivery, Group, Memory, Standing
from vitalgate.handover.outcome import Outcome

SECOND = 1_000_000
#: Closed alerts are remembered so long, so that a repeat of their events is known as one.
KEEP_US = 3600 * SECOND
#: A failure is over after this, whatever became of the alert.
FORGET_US = 24 * 3600 * SECOND
#: How often what was given up is tried once more because its destination has come back.
REVIVALS = 3
MOST_ALERTS = 100
MOST_TITLES = 10
_FAILED_RANK = 500
_SAID = (
    "event_id", "alert_id", "rule", "title", "kind", "text", "onset", "value", "unit", "limit", "metric",
    "escalation_level", "hindsight",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Times of the hand-over, us."""

    window: int = 60 * SECOND
    moment: int = SECOND
    deadline: int = 120 * SECOND
    give_up: int = 3600 * SECOND
    stale: int = 6 * 3600 * SECOND


class Post:
    """Decides over one patient's notifications."""

    def __init__(self, memory: Memory, limits: Limits) -> None:
        self.memory = memory
        self._limits = limits
        self._records: list[AlertDelivery] = []

    # --- what comes in ----------------------------------------------------------------------------------------------

    def take(self, event: Mapping[str, Any], wanting: Mapping[str, Destination], now: int) -> bool:
        """One event of patient.alerts; False when it was taken before.

        Parameters
        ----------
        wanting
            The destinations that want it, if people are to be told.
        """
        known = self.memory.alerts.get(event["alert_id"])
        if known is not None and event["number"] <= known.number:
            return False
        how = _standing(event)
        closed = bool(event.get("closed")) or how == "gone"
        self.memory.alerts[event["alert_id"]] = Standing(event["number"], how, closed, now)
        if event.get("notify") and how == "open":
            for name, destination in wanting.items():
                self._tell(name, destination, event, now)
        return True

    def _tell(self, name: str, destination: Destination, event: Mapping[str, Any], now: int) -> None:
        # That somewhere else nobody could be told does not wait for the end of a window.
        rank = pressing(event) + (_FAILED_RANK if event["rule"] == FAILED_RULE else 0)
        open_window = self.memory.windows.get(name)
        window, due = place(
            None if open_window is None else Window(*open_window), rank, now, self._limits.window, self._limits.moment
        )
        self.memory.windows[name] = (window.until, window.told)
        gathering = next((d for d in self.memory.deliveries if d.destination == name and d.state == "waiting"), None)
        if gathering is not None:
            was_high = gathering.high
            _join(gathering.group, event, rank)
            gathering.due = min(gathering.due, due)
            if gathering.high and not was_high:
                gathering.since = now  # what waited through quiet hours is not late by that
            return
        made = Delivery(
            delivery_id(name, event["event_id"]), name, destination.kind, destination.clinician or "",
            _group(event, rank), now, now, due,
        )  # fmt: skip
        self.memory.deliveries.append(made)
        self._say(made, "waiting", now)

    # --- time -------------------------------------------------------------------------------------------------------

    def advance(self, destinations: Mapping[str, Destination], now: int) -> None:
        """What time, other events and the file of destinations have brought."""
        for one in self.memory.deliveries:
            if one.state in ("waiting", "retrying"):
                self._advance_one(one, destinations.get(one.destination), now)
            elif one.state == "sending":
                self._look_late(one, now)
            elif one.failing and (now - one.ended > FORGET_US or not self._waited_for(one)):
                one.failing = False
                self._say(one, "settled", now)
        self.memory.deliveries = [d for d in self.memory.deliveries if not d.ended or d.failing]
        self._forget(now)

    def _advance_one(self, one: Delivery, destination: Destination | None, now: int) -> None:
        if destination is None:
            self._end(one, "withdrawn", now, "the destination was taken away")
        elif not self._needed(one, now):
            self._end(one, "withdrawn", now, self._why_not(one))
        elif now >= one.since + self._limits.give_up:
            self._fail(one, now, one.error or "its turn never came")
        else:
            self._look_late(one, now)
            until = None if one.high or one.state != "waiting" or one.due > now else destination.quiet(now)
            if until is not None and until > one.due:
                one.due = one.since = until
                one.error = "quiet hours"
                self._say(one, "waiting", now)

    def _look_late(self, one: Delivery, now: int) -> None:
        if one.high and not one.late and now >= one.since + self._limits.deadline:
            one.late = True
            one.failing = _matters(one)
            self._say(one, "late", now)

    def ready(self, now: int) -> list[Delivery]:
        """What is due; `begin` each that can go."""
        return [d for d in self.memory.deliveries if d.state in ("waiting", "retrying") and d.due <= now]

    def wake(self) -> int | None:
        """When something is to be looked at next, us; None: not before an event."""
        found = [at + KEEP_US for at in (a.at for a in self.memory.alerts.values() if a.closed)]
        for one in self.memory.deliveries:
            found.append(one.ended + FORGET_US if one.ended else one.since + self._limits.give_up)
            if not one.ended and one.state != "sending":
                found.append(one.due)
            if one.high and not one.late and not one.ended:
                found.append(one.since + self._limits.deadline)
        return min(found, default=None)

    # --- sending ----------------------------------------------------------------------------------------------------

    def begin(self, one: Delivery, now: int) -> None:
        """It goes out as it stands: what comes from here on is in another one."""
        one.state = "sending"
        one.attempts += 1
        one.error = ""
        known = self.memory.windows.get(one.destination)
        window = after(None if known is None else Window(*known), one.group.rank, now, self._limits.window)
        self.memory.windows[one.destination] = (window.until, window.told)

    def over(self, one: Delivery) -> bool:
        """Whether all of its alarms are over by now."""
        found = [self.memory.alerts.get(alert) for alert in one.group.alerts]
        return all(standing is not None and standing.how == "over" for standing in found)

    def end(self, name: str, outcome: Outcome, now: int) -> None:
        """What came of an attempt."""
        one = next((d for d in self.memory.deliveries if d.id == name and d.state == "sending"), None)
        if one is None:
            return
        if outcome.result == "delivered":
            one.failing = False
            self._end(one, "delivered", now, "")
        elif outcome.result == "refused" or now >= one.since + self._limits.give_up:
            self._fail(one, now, outcome.error)
        else:
            one.state, one.error = "retrying", outcome.error
            pause = pause_us(one.id, one.attempts, outcome.retry_after_s)
            one.due = min(now + pause, one.since + self._limits.give_up)
            self._say(one, "retrying", now)

    def resume(self, now: int) -> None:
        """After a restart nobody knows what became of attempts under way: they are made again, under the same id."""
        for one in self.memory.deliveries:
            if one.state == "sending":
                one.state, one.due, one.error = "retrying", now, "the process was restarted meanwhile"

    def revive(self, destination: str, now: int) -> bool:
        """The destination takes notifications again: what was given up is tried once more."""
        found = [
            d for d in self.memory.deliveries
            if d.destination == destination and d.state == "failed" and d.failing and d.revived < REVIVALS
        ]  # fmt: skip
        for one in found:
            one.state, one.ended, one.since, one.due, one.revived = "retrying", 0, now, now, one.revived + 1
            self._say(one, "retrying", now)
        return bool(found)

    def drain(self) -> list[AlertDelivery]:
        """What has happened since the last call; the last of it says how many are undelivered, when that changed."""
        found, self._records = self._records, []
        undelivered = sum(d.failing for d in self.memory.deliveries)
        if found and undelivered != self.memory.told:
            self.memory.told = undelivered
            found[-1] = found[-1].model_copy(update={"undelivered": undelivered})
        return found

    # --- inside -----------------------------------------------------------------------------------------------------

    def _needed(self, one: Delivery, now: int) -> bool:
        """Whether somebody still has to be told; one of high priority also when it is over, unless that is long ago."""
        if one.group.event["rule"] == FAILED_RULE and not any(how == "open" for how in self._hows(one)):
            return False
        fresh = one.high and now - one.group.detected < self._limits.stale
        return any(how == "open" or (how == "over" and fresh) for how in self._hows(one))

    def _waited_for(self, one: Delivery) -> bool:
        """Whether nobody has answered what was not told."""
        return any(how in ("open", "over") for how in self._hows(one))

    def _hows(self, one: Delivery) -> Iterator[str]:
        for alert in one.group.alerts:
            standing = self.memory.alerts.get(alert)
            yield "over" if standing is None else standing.how

    def _why_not(self, one: Delivery) -> str:
        hows = set(self._hows(one))
        for how, why in (
            ("answered", "it has been acknowledged"), ("quiet", "it has been silenced or suppressed"),
            ("over", "it is over"), ("gone", "it has been taken back"),
        ):  # fmt: skip
            if how in hows:
                return why
        return "it is over"

    def _fail(self, one: Delivery, now: int, error: str) -> None:
        one.failing = _matters(one)
        self._end(one, "failed", now, error)

    def _end(self, one: Delivery, state: Step, now: int, error: str) -> None:
        one.state, one.ended, one.error = state, now, error
        one.failing = one.failing and state == "failed"
        self._say(one, state, now)

    def _say(self, one: Delivery, state: Step, now: int) -> None:
        one.number += 1
        group = one.group
        self._records.append(
            AlertDelivery.model_validate(
                {
                    "delivery_id": one.id, "number": one.number, "patient": self.memory.patient, "team": group.team,
                    "destination": one.destination, "kind": one.kind, "clinician": one.clinician,
                    "priority": group.priority, "state": state, "at": when(now), "created_at": when(one.created),
                    "due": when(one.due) if state in ("waiting", "retrying") else None, "attempts": one.attempts,
                    "count": group.count, "alert_ids": list(group.alerts), "event_id": group.event["event_id"],
                    "error": one.error,
                }
            )
        )  # fmt: skip

    def _forget(self, now: int) -> None:
        memory = self.memory
        used = {alert for one in memory.deliveries for alert in one.group.alerts}
        memory.alerts = {
            name: standing for name, standing in memory.alerts.items()
            if not standing.closed or now - standing.at < KEEP_US or name in used
        }  # fmt: skip
        waiting = {one.destination for one in memory.deliveries if one.state == "waiting"}
        memory.windows = {name: window for name, window in memory.windows.items() if window[0] > now or name in waiting}


def _standing(event: Mapping[str, Any]) -> str:
    if event["state"] == "retracted":
        return "gone"
    if event.get("acknowledged_by"):
        return "answered"
    if event["state"] in ("cleared", "closed"):
        return "over"
    return "quiet" if event.get("silenced_until") or event.get("suppressed_by") else "open"


def _matters(one: Delivery) -> bool:
    """A high-priority alarm that nobody is told of; that it is the alarm about just that is no further one."""
    return one.high and one.group.event["rule"] != FAILED_RULE


def _group(event: Mapping[str, Any], rank: int) -> Group:
    return Group(
        event["team"], event["priority"], rank, 1, [event["alert_id"]], [event["title"]], _said(event),
        _us(event["detected_at"]),
    )  # fmt: skip


def _join(group: Group, event: Mapping[str, Any], rank: int) -> None:
    group.count += 1
    group.alerts = [*(a for a in group.alerts if a != event["alert_id"]), event["alert_id"]][-MOST_ALERTS:]
    group.titles = list(dict.fromkeys([*group.titles, event["title"]]))[:MOST_TITLES]
    group.detected = max(group.detected, _us(event["detected_at"]))
    if rank >= group.rank:
        group.team, group.priority, group.rank, group.event = event["team"], event["priority"], rank, _said(event)


def _said(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in _SAID}


def _us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)
