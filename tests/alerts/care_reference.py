"""A reference model of what becomes of alerts: it works everything out anew at each step, from all that it has seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.alerts import reference
from vitalgate.alerts.roster import Roster
from vitalgate.alerts.rule import ORDER, Rule
from vitalgate.devices.records import PatientInput

NEVER = -(1 << 62)


@dataclass
class Alert:
    """One alert, and what was done with it."""

    onset: int
    end: int | None = None
    retracted: bool = False
    closed: bool = False
    told: int = NEVER
    level: int = 0
    acknowledged: str = ""
    silenced: int = 0
    suppressed: str = ""


@dataclass
class World:
    """Everything there is to know of one patient."""

    rules: list[Rule]
    roster: Roster
    now: int = NEVER
    inputs: list[PatientInput] = field(default_factory=list)
    alerts: dict[str, dict[int, Alert]] = field(default_factory=dict)
    commands: dict[str, bool] = field(default_factory=dict)
    """Command id to whether it was obeyed."""

    def __post_init__(self) -> None:
        self.rules.sort(key=lambda rule: (-ORDER[rule.priority], rule.id))

    def take(self, record: PatientInput) -> None:
        """One message; a repeat is one too."""
        self.inputs.append(record)
        self._judge()

    def tick(self, now: int) -> None:
        """Time passes."""
        self.now = max(self.now, now)
        self._judge()

    def command(self, name: str, action: str, rule: str, onset: int, who: str, until: int, detected: int) -> bool:
        """Somebody does something, once."""
        if name in self.commands:
            return self.commands[name]
        alert = self.alerts.get(rule, {}).get(onset)
        now = detected if self.now == NEVER else self.now
        obeyed = alert is not None and not alert.retracted and not alert.closed
        if alert is not None and obeyed:
            if action == "acknowledge":
                obeyed = not alert.acknowledged
                alert.acknowledged = alert.acknowledged or who
            elif action == "silence":
                obeyed = now < until <= now + 86400 * 1_000_000
                alert.silenced = until if obeyed else alert.silenced
            else:
                obeyed = bool(alert.silenced)
                alert.silenced = 0
        self.commands[name] = obeyed
        if alert is not None and obeyed and alert.end is not None and action == "acknowledge":
            alert.closed = self._may_close(next(r for r in self.rules if r.id == rule), alert)
        if obeyed:
            self._judge()
        return obeyed

    def standing(self) -> list[tuple[object, ...]]:
        """All alerts that were not taken back, with what was done with them."""
        return sorted(
            (rule, a.onset, a.end, a.closed, a.acknowledged, a.level, a.silenced, a.suppressed if a.end is None else "")
            for rule, alerts in self.alerts.items() for a in alerts.values() if not a.retracted
        )  # fmt: skip

    def _may_close(self, rule: Rule, alert: Alert) -> bool:
        if rule.latched and not alert.acknowledged:
            return False
        return alert.end is not None and (not rule.settle_s or alert.end + rule.settle_s * 1e6 <= self.now)

    def _judge(self) -> None:
        samples = reference.standing(self.inputs)
        for rule in self.rules:
            self._compare(rule, dict(reference.intervals(rule, samples)))
        for rule in self.rules:
            for alert in self.alerts.get(rule.id, {}).values():
                if not alert.retracted and not alert.closed:
                    self._care(rule, alert)

    def _compare(self, rule: Rule, ought: dict[int, int | None]) -> None:
        alerts = self.alerts.setdefault(rule.id, {})
        gone = [a for a in alerts.values() if not a.retracted and a.onset not in ought]
        new = sorted(onset for onset in ought if onset not in alerts or alerts[onset].retracted)
        heirs: dict[int, Alert] = {}
        for alert in sorted(gone, key=lambda a: a.onset):
            last = self._detected(rule, alert) if alert.end is None else alert.end
            for onset in new:
                end = ought[onset]
                if onset <= last and (end is None or end >= alert.onset):
                    heirs[onset] = alert
                    break
            alert.retracted = alert.closed = True
        for onset, end in ought.items():
            if onset in new:
                continue
            alert = alerts[onset]
            if alert.end != end:
                alert.closed = False
                alert.end = end
                if end is not None:
                    alert.closed = self._may_close(rule, alert)
        for onset in new:
            made = alerts[onset] = Alert(onset, told=self.now)
            parent = heirs.get(onset)
            if parent is not None:
                made.told, made.level = parent.told, parent.level
                made.acknowledged, made.silenced = parent.acknowledged, parent.silenced
            made.suppressed = self._suppressor(rule)
            made.end = ought[onset]
            self.detected[rule.id, onset] = self._first_detection(rule, onset)
            if made.end is not None:
                made.closed = self._may_close(rule, made)

    detected: dict[tuple[str, int], int] = field(default_factory=dict)

    def _detected(self, rule: Rule, alert: Alert) -> int:
        return self.detected[rule.id, alert.onset]

    def _first_detection(self, rule: Rule, onset: int) -> int:
        """When an alert's condition was first met, in event time."""
        samples = reference.standing(self.inputs)
        times = sorted({t for values in samples.values() for t, _ in values if t >= onset})
        for stop in times:
            seen = {metric: [v for v in values if v[0] <= stop] for metric, values in samples.items()}
            if onset in dict(reference.intervals(rule, seen)):
                return stop
        return onset

    def _suppressor(self, rule: Rule) -> str:
        for other in self.rules:
            if rule.id in other.suppresses and any(
                a.end is None and not a.retracted for a in self.alerts.get(other.id, {}).values()
            ):
                return other.id
        return ""

    def _care(self, rule: Rule, alert: Alert) -> None:
        if alert.end is not None:
            alert.closed = self._may_close(rule, alert)
            return
        by = self._suppressor(rule)
        if by != alert.suppressed:
            if not by:
                alert.told, alert.level = self.now, 0
            alert.suppressed = by
        if alert.told == NEVER:
            alert.told = self.now
        if alert.silenced and self.now >= alert.silenced:
            alert.silenced = 0
        if alert.acknowledged or alert.suppressed or alert.silenced or alert.told == NEVER:
            return
        due = sum(self.now >= alert.told + after for after, _ in self.roster.rungs(rule.priority))
        alert.level = max(alert.level, due)
