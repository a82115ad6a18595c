"""The demo's patients: most of them well, some not, every kind of device among them, and some bad manners."""

from __future__ import annotations

import math
from typing import Any

from vitalgate.simulators.scenario import Scenario, check

#: How many corrections, repeats and bad messages there are in all, at least.
AT_LEAST = 24

_GARBAGE = (
    "undecodable", "unknown-metric", "out-of-range", "not-a-number", "unknown-unit", "schema", "future", "wrong-topic",
)  # fmt: skip


def _both(rest: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"kind": "ecg-patch"}, {"kind": "pulse-oximeter", "site": "finger"}, *rest.get("devices", [])]


def _roles(seconds: float) -> list[dict[str, Any]]:
    """What kinds of patient there are, in order of appearance."""
    early = min(8.0, seconds / 4)
    return [
        {
            "role": "breathless",
            "changes": [{"what": "spo2", "set": [[0, 96], [early - 0.1, 95], [early, 80]]}],
            "devices": [{"kind": "respiration-belt"}],
        },
        {
            "role": "hypoglycaemic",
            "changes": [{"what": "glucose", "set": [[0, 92], [early - 0.1, 88], [early, 47]]}],
            "devices": [{"kind": "glucose-meter", "every": 4, "first": 1, "site": "finger"}],
        },
        {
            "role": "hypertensive",
            "changes": [
                {"what": "systolic", "set": [[0, 142], [early - 0.1, 142], [early, 194]]},
                {"what": "diastolic", "set": [[0, 88], [early - 0.1, 88], [early, 112]]},
            ],
            "devices": [{"kind": "bp-cuff", "every": 5, "first": 1, "site": "left-arm"}],
        },
        {
            "role": "slow-hearted",
            "changes": [{"what": "heart_rate", "set": [[0, 60], [2, 60], [2.5, 37]]}],
            "rhythms": [{"kind": "pause", "at": early + 2, "seconds": 3.6}],
            "devices": [{"kind": "manual", "every": 10, "first": 2}],
        },
        {
            "role": "feverish",
            "changes": [{"what": "temperature", "set": [[0, 38.4], [early - 0.1, 38.6], [early, 39.5]]}],
            "devices": [{"kind": "thermometer", "every": 5, "first": 1, "site": "ear"}],
        },
        {
            "role": "sporty",
            "changes": [{"what": "activity", "set": [[0, 0.3], [seconds, 0.5]]}],
            "devices": [{"kind": "ergometer"}, {"kind": "activity-band", "every": 10}],
        },
        {
            "role": "swelling",
            "devices": [
                {"kind": "scale", "every": 8, "first": 1},
                {"kind": "ecg-12-lead", "every": 20, "first": 2, "strip_s": min(10.0, seconds / 3)},
            ],
        },
        {
            "role": "wheezing",
            "devices": [
                {"kind": "spirometer", "every": 10, "first": 2},
                {"kind": "ecg-handheld", "every": 40, "first": 3, "strip_s": min(30.0, seconds / 2)},
            ],
        },
        {"role": "fibrillating", "rhythms": [{"kind": "af", "at": 5, "seconds": seconds}]},
        {"role": "well"},
        {"role": "well"},
        {"role": "well"},
    ]


def demo_scenario(patients: int, seconds: float) -> Scenario:
    """A scenario of that many patients; at least eight have every kind of device among them."""
    roles = _roles(seconds)
    each = math.ceil(AT_LEAST / patients)
    people: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    late = seconds * 0.6
    for number in range(patients):
        role = roles[number % len(roles)]
        name = f"{number + 1:0{len(str(patients))}d}-{role['role']}"
        people.append({"name": name, **{k: v for k, v in role.items() if k != "role"}, "devices": _both(role)})
        finger = f"{name}/pulse-oximeter"
        shift = 0.05 * (number % 20)
        events += [
            {
                "at": late + shift, "device": finger, "do": "correct", "metric": "perfusion_index", "change": 0.5,
                "count": each,
            },
            {"at": late + 1 + shift, "device": finger, "do": "repeat", "count": max(1, each // 2)},
            {"at": late + 2 + shift, "device": finger, "do": "resend", "count": max(1, each // 2)},
            {
                "at": late + 3 + shift, "device": finger, "do": "garbage", "what": _GARBAGE[number % len(_GARBAGE)],
                "count": each,
            },
        ]  # fmt: skip
        if number % 8 == 5:
            events.append(
                {"at": seconds * 0.25, "device": f"{name}/ecg-patch", "do": "offline", "seconds": seconds * 0.3}
            )
        if number % 8 == 7:
            events.append({"at": seconds * 0.4, "device": finger, "do": "sensor-off", "seconds": seconds * 0.2})
    document = {
        "name": "demo", "title": "The demo", "seconds": seconds, "patients": people, "events": events,
        "expect": {"other_alerts": True},
    }  # fmt: skip
    return check(document, "the demo")
