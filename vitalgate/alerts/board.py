"""The open alerts as a clinician wants them before them: sorted, with their age and the trend of the value. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from vitalgate.alerts.rule import number
from vitalgate.devices import times

_BARS = "▁▂▃▄▅▆▇█"
#: Values of a trend that are kept.
TREND = 64
_MOST_TRENDS = 20_000


def pressing(alert: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort key: what speaks before what is suppressed, then priority, unanswered before answered, oldest first."""
    rank = {"high": 0, "medium": 1, "low": 2}.get(alert["priority"], 3)
    return (bool(alert.get("suppressed_by")), rank, alert["state"] in ("acknowledged", "cleared"), alert["onset"])


def sparkline(values: list[float], width: int = 16) -> str:
    """Values as a line of bars from their lowest to their highest, oldest first."""
    shown = values[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high - low < 1e-9:
        return _BARS[3] * len(shown)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in shown)


def age(seconds: float) -> str:
    """A stretch of time in its greatest unit, such as 45 s, 12 min, 3 h or 2 d."""
    seconds = max(0.0, seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= 60):
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def _value(alert: Mapping[str, Any]) -> str:
    """Value and unit as people read them: an annotation such as {score} says nothing beside the title."""
    if alert["value"] is None:
        return ""
    unit = "" if alert["unit"].startswith("{") else alert["unit"].replace("[", "").replace("]", "")
    return f"{number(alert['value'])} {unit.replace('Cel', '°C')}".strip()


class Board:
    """Alerts that are not closed, the one that is selected, and the newest values by patient and metric."""

    def __init__(self) -> None:
        self.alerts: dict[str, dict[str, Any]] = {}
        self.selected = ""
        """Alert id."""
        self._trends: dict[tuple[str, str], deque[tuple[int, float]]] = {}

    def take(self, key: str, alert: dict[str, Any] | None) -> None:
        """A record of patient.alerts.state; the key is patient|alert id."""
        name = key.rpartition("|")[2]
        if alert is None:
            self.alerts.pop(name, None)
        else:
            self.alerts[name] = alert

    def measured(self, patient: str, metric: str, time_us: int, value: float) -> None:
        """One value of a metric."""
        trend = self._trends.get((patient, metric))
        if trend is None:
            if len(self._trends) >= _MOST_TRENDS:
                self._trends.pop(next(iter(self._trends)))
            trend = self._trends[patient, metric] = deque(maxlen=TREND)
        trend.append((time_us, value))

    def trend(self, patient: str, metric: str) -> list[float]:
        """The newest values in order of event time."""
        return [value for _, value in sorted(self._trends.get((patient, metric), ()))]

    def ordered(self) -> list[dict[str, Any]]:
        """The alerts, the most pressing first. Keeps the selection on something that is there."""
        found = sorted(self.alerts.values(), key=pressing)
        if found and self.selected not in self.alerts:
            self.selected = found[0]["alert_id"]
        return found

    def move(self, by: int) -> None:
        """Select another one, so many rows on."""
        names = [alert["alert_id"] for alert in self.ordered()]
        if names:
            at = names.index(self.selected) + by
            self.selected = names[max(0, min(len(names) - 1, at))]

    def rows(self, now_us: int) -> list[dict[str, str]]:
        """What each line of the table says."""
        rows = []
        for alert in self.ordered():
            since = (now_us - times.parse(alert["onset"]).us) / 1e6
            state = alert["state"]
            if alert.get("suppressed_by"):
                state = f"part of {alert['suppressed_by']}"
            elif alert.get("silenced_until"):
                left = (times.parse(alert["silenced_until"]).us - now_us) / 1e6
                state = f"{state}, silent {age(left)}"
            if alert.get("acknowledged_by"):
                state = f"{state} by {alert['acknowledged_by'].removeprefix('user:')}"
            rows.append(
                {
                    "id": alert["alert_id"], "priority": alert["priority"], "age": age(since),
                    "patient": alert["patient"], "title": alert["title"],
                    "value": _value(alert),
                    "trend": sparkline(self.trend(alert["patient"], alert["metric"])), "state": state,
                    "text": alert["text"], "team": alert["team"],
                }
            )  # fmt: skip
        return rows
