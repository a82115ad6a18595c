"""From a device's publish to the committed row and to the clinician's screen, at a steady 300 messages a second.

3,000 patients: 60 wear an ECG patch that sends a packet each second, the others an oximeter that measures in turns.
Five times a second one of them measures a value that raises an alert which is not open. The same once more with
PostgreSQL stopped: alerts need no database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.bed import Bed, BenchError, Wearer, now
from benchmarks.committed import CommitWatch, balanced, percentiles
from benchmarks.generator import Sent
from benchmarks.throughput import publish
from vitalgate.local import control
from vitalgate.simulators.watch import AlertWatch, Arrived

RATE = 300
PATIENTS = 3000
ALERTS_PER_S = 5
RULE = "spo2-critical"
_PACKET_SHARE = 5
_CRITICAL, _WELL = 76, 97
_PATIENCE_S = 60.0
_PARTS = ("publish to gateway", "gateway to decision", "decision to screen")


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section."""
    rate = max(30, int(RATE * scale))
    patches, oximeters = load.cast("l", rate // _PACKET_SHARE, max(rate, int(PATIENTS * scale)) - rate // _PACKET_SHARE)
    probes = min(max(4, int(seconds * ALERTS_PER_S * scale)), len(oximeters) // 3)
    tell(f"registering {len(patches) + len(oximeters)} patients and devices")
    bed.enrol([*patches, *oximeters], now() - timedelta(minutes=1))
    time.sleep(2)
    mixture = Mixture(patches, oximeters, rate)
    tell(f"{rate} messages/s for {seconds:g} s, {probes} of them raising an alert")
    count = int(rate * seconds)
    mqtt = bed.settings.mqtt
    with AlertWatch(mqtt.host, mqtt.port, bed.username, bed.password) as alerts:
        # First everybody speaks once, so that nobody is new.
        warm = len(oximeters) * _PACKET_SHARE // (_PACKET_SHARE - 1)
        publish(bed, load.Departures(mixture.messages(warm, 0)), warm, rate)
        with CommitWatch(bed.settings, 0.02) as watch:
            sent, departures, wanted = _measured(bed, mixture, count, probes)
            watch.wait(count, _PATIENCE_S)
        rows = watch.lags(departures.sent, [wearer.device for wearer in (*patches, *oximeters)])
        whole = _alerts(alerts, departures, wanted)
        tell("the same with PostgreSQL stopped")
        control.stop_process(bed.stack.data, "postgres")
        try:
            without, departures, wanted = _measured(bed, mixture, count, probes)
            alone = _alerts(alerts, departures, wanted)
        finally:
            control.start_process(bed.stack.data, "postgres")
    return {
        "messages": count,
        "patients": len(patches) + len(oximeters),
        "messages_per_s": round(sent.messages / sent.seconds, 1),
        "messages_per_s_without_database": round(without.messages / without.seconds, 1),
        "device_to_row": percentiles(rows),
        "device_to_alert": whole,
        "device_to_alert_without_database": alone,
        "balanced": _balanced(bed),
    }


class Mixture:
    """Messages made at the moment of sending, so that they bear the time at which they are sent."""

    def __init__(self, patches: Sequence[Wearer], oximeters: Sequence[Wearer], rate: int) -> None:
        self._patches, self._oximeters, self.rate = patches, oximeters, rate
        self._start = now()
        self._seq: dict[str, int] = {}
        self._turn = self._packet = 0
        self._raised: set[str] = set()

    def messages(
        self, count: int, probes: int, wanted: dict[str, tuple[str, int]] | None = None
    ) -> Iterator[load.Message]:
        """So many messages, every fifth an ECG packet; `probes` of them, evenly spread, raise an alert.

        `wanted` is given each of those: patient -> (device, seq).
        """
        done = 0
        for number in range(count):
            if number % _PACKET_SHARE == 4:
                wearer, place = self._patches[self._packet % len(self._patches)], self._packet // len(self._patches)
                self._packet += 1
                yield load.packet(wearer.device, place, "l1", place + 1, self._start - timedelta(seconds=2))
                continue
            wearer = self._oximeters[self._turn % len(self._oximeters)]
            self._turn += 1
            seq = self._seq[wearer.device] = self._seq.get(wearer.device, 0) + 1
            due = done < probes and number * probes >= done * count and wearer.patient not in self._raised
            if due:
                done += 1
                self._raised.add(wearer.patient)
                if wanted is not None:
                    wanted[wearer.patient] = wearer.device, seq
            yield load.readings(wearer.device, "l1", seq, _at(), _CRITICAL if due else _WELL, 80)


def _measured(
    bed: Bed, mixture: Mixture, count: int, probes: int
) -> tuple[Sent, load.Departures, dict[str, tuple[str, int]]]:
    wanted: dict[str, tuple[str, int]] = {}
    departures = load.Departures(mixture.messages(count, probes, wanted))
    return publish(bed, departures, count, mixture.rate), departures, wanted


def _alerts(alerts: AlertWatch, departures: load.Departures, wanted: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """How long each alert took, and where."""
    until = time.monotonic() + 10
    while True:
        found = {
            one.alert["patient"]: one for one in alerts.arrived() if _is_new(one) and one.alert["patient"] in wanted
        }
        if len(found) == len(wanted) or time.monotonic() > until:
            break
        time.sleep(0.1)
    stages = []
    for patient, one in found.items():
        left, arrived = departures.sent[wanted[patient]], one.at_us / 1e6
        received, decided = (_seconds(one.alert[name]) for name in ("received_at", "detected_at"))
        stages.append((arrived - left, received - left, decided - received, arrived - decided))
    table = np.array(stages).reshape(-1, 4)
    parts = {name: percentiles(table[:, n]) for n, name in enumerate(_PARTS, 1)}
    return {**percentiles(table[:, 0]), "missing": len(wanted) - len(found), "parts": parts}


def _is_new(one: Arrived) -> bool:
    return bool(one.alert["rule"] == RULE)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _at() -> datetime:
    return now() - timedelta(milliseconds=1)


def _balanced(bed: Bed) -> bool:
    """Once the database is back and has taken what waited."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if balanced(bed.settings):
                return True
        except Exception as error:
            if time.monotonic() > until:
                raise BenchError(f"the database did not come back: {error}") from error
        if time.monotonic() > until:
            return False
        time.sleep(0.5)


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    row = found["device_to_row"]
    lines = [
        f"{found['messages']:,} messages of {found['patients']:,} patients at {found['messages_per_s']:,.0f}/s",
        f"device to committed row   p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms of {row['count']:,} (bar: p99 2 s)",
    ]
    for name, key in (
        ("alert on MQTT", "device_to_alert"),
        ("… PostgreSQL stopped", "device_to_alert_without_database"),
    ):
        lag = found[key]
        lines.append(
            f"device to {name:<21} p50 {lag['p50_ms']} ms, p99 {lag['p99_ms']} ms of {lag['count']:,}, "
            f"{lag['missing']} missing (bar: p50 50 ms, p99 150 ms)"
        )
        lines += [f"  {part:<22} p50 {p['p50_ms']} ms, p99 {p['p99_ms']} ms" for part, p in lag["parts"].items()]
    return lines
