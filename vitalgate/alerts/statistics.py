"""Alarm fatigue in figures: how many alerts, how many answered, how soon, and which rules are the noisiest. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from statistics import median
from typing import Any

from vitalgate.devices import times

DAY_S = 86400.0


def figures(events: Iterable[Mapping[str, Any]], patients: int, begin: datetime, end: datetime) -> dict[str, Any]:
    """Figures of a stretch of time.

    Parameters
    ----------
    events
        Events of patient.alerts, each once, in order.
    patients
        How many patients were looked after; at least those with an alert are counted.
    begin, end
        The stretch; less than a day counts as one, so that an hour's alerts are not blown up to a day's.
    """
    alerts: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        alerts.setdefault(event["alert_id"], []).append(event)
    raised = {
        name: story for name, story in alerts.items()
        if any(e.get("happened", e["state"]) == "raised" for e in story)
    }  # fmt: skip
    standing = {name: story for name, story in raised.items() if story[-1]["state"] != "retracted"}
    people = max(patients, len({story[0]["patient"] for story in raised.values()}))
    days = people * max((end - begin).total_seconds() / DAY_S, 1.0)
    waits = [wait for story in raised.values() if (wait := _answered(story)) is not None]
    aloud = [story for story in raised.values() if any(e.get("notify") for e in story)]
    noisy: dict[str, list[list[Mapping[str, Any]]]] = {}
    for story in raised.values():
        noisy.setdefault(story[0]["rule"], []).append(story)
    return {
        "from": begin.isoformat(), "to": end.isoformat(), "patients": people, "patient_days": round(days, 3),
        "alerts": len(raised), "alerts_per_patient_day": round(len(raised) / days, 4),
        "retracted": len(raised) - len(standing), "notified": len(aloud),
        "hindsight": sum(bool(story[0].get("hindsight")) for story in raised.values()),
        "suppressed": sum(any(e.get("suppressed_by") for e in story) for story in raised.values()),
        "escalated": sum(any(e["state"] == "escalated" for e in story) for story in raised.values()),
        "acknowledged_share": round(len(waits) / len(aloud), 4) if aloud else None,
        "median_time_to_acknowledge_s": round(median(waits), 1) if waits else None,
        "by_priority": {
            priority: sum(story[0]["priority"] == priority for story in raised.values())
            for priority in ("high", "medium", "low")
        },
        "noisiest": [
            {
                "rule": rule, "alerts": len(stories), "per_patient_day": round(len(stories) / days, 4),
                "patients": len({story[0]["patient"] for story in stories}),
                "acknowledged": sum(_answered(story) is not None for story in stories),
            }
            for rule, stories in sorted(noisy.items(), key=lambda item: (-len(item[1]), item[0]))
        ],
    }  # fmt: skip


def _answered(story: list[Mapping[str, Any]]) -> float | None:
    """Seconds from telling to acknowledgement; None when nobody acknowledged."""
    first = next(e for e in story if e.get("happened", e["state"]) == "raised")
    for event in story:
        if event.get("happened", event["state"]) == "acknowledged":
            at = event.get("acknowledged_at") or event["detected_at"]
            return max(0.0, (times.parse(at).us - times.parse(first["detected_at"]).us) / 1e6)
    return None
