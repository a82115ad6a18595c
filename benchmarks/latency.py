"""Device-to-row and device-to-alert latency at a steady 300 messages a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.bed import Bed, now
from benchmarks.committed import CommitWatch, balanced, percentiles
from benchmarks.throughput import publish
from vitalgate.simulators.watch import AlertWatch

RATE = 300
RULE = "spo2-critical"
_CRITICAL = 76
_EVERY_S = 0.5
_PATIENCE_S = 60.0


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section."""
    rate = max(30, int(RATE * scale))
    probes = max(4, int(seconds / _EVERY_S))
    patches, oximeters = load.cast("l", max(1, rate // 5), rate * 4 // 5)
    _, critical = load.cast("c", 0, probes)
    bed.enrol([*patches, *oximeters, *critical])
    time.sleep(2)
    ordinary = load.mixed(patches, oximeters, int(rate * seconds), "l1", now())
    gap = max(1, len(ordinary) // probes)
    count = len(ordinary) + probes
    tell(f"{rate} messages/s for {seconds:g} s, {probes} of them completing an alert")

    def mixture() -> Iterator[load.Message]:
        left = list(critical)
        for number, message in enumerate(ordinary):
            if number % gap == 0 and left:
                yield load.readings(left.pop().device, "c1", 1, _at(), _CRITICAL, 80)
            yield message
        for wearer in left:
            yield load.readings(wearer.device, "c1", 1, _at(), _CRITICAL, 80)

    departures = load.Departures(mixture())
    mqtt = bed.settings.mqtt
    with AlertWatch(mqtt.host, mqtt.port, bed.username, bed.password) as alerts:
        with CommitWatch(bed.settings, 0.005) as watch:
            sent = publish(bed, departures, count, rate)
            watch.wait(count, _PATIENCE_S)
        until = time.monotonic() + 10
        patients = {wearer.patient: wearer.device for wearer in critical}
        while True:
            arrived = {
                one.alert["patient"]: one.at_us / 1e6
                for one in reversed(alerts.arrived())
                if one.alert["rule"] == RULE and one.alert["patient"] in patients
            }
            if len(arrived) == probes or time.monotonic() > until:
                break
            time.sleep(0.1)
    rows = watch.lags(departures.sent, [w.device for w in (*patches, *oximeters, *critical)])
    told = [at - departures.sent[patients[patient], 1] for patient, at in arrived.items()]
    return {
        "messages": count,
        "messages_per_s": round(sent.messages / sent.seconds, 1),
        "device_to_row": percentiles(rows),
        "device_to_alert": percentiles(np.array(told)),
        "alerts_missing": probes - len(told),
        "balanced": balanced(bed.settings),
    }


def _at() -> datetime:
    return now() - timedelta(milliseconds=1)


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"{found['messages']:,} messages at {found['messages_per_s']:,.0f}/s"]
    for name, key, limit in (("committed row", "device_to_row", "2 s"), ("alert on MQTT", "device_to_alert", "1 s")):
        lag = found[key]
        lines.append(
            f"device to {name:<14} p50 {lag['p50_ms']} ms, p99 {lag['p99_ms']} ms of {lag['count']:,} "
            f"(bar: p99 {limit})"
        )
    lines.append(f"alerts that did not come: {found['alerts_missing']}")
    return lines
