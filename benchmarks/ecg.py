"""How many patients' ECGs at 250 Hz are held: the lag to committed rows and to published beats, in real time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import load, processes
from benchmarks.beats_watch import BeatsWatch
from benchmarks.bed import Bed, BenchError, now
from benchmarks.committed import CommitWatch, balanced, percentiles
from benchmarks.throughput import publish
from vitalgate.signal.beats import AFTER_S, BEFORE_S, BLOCK_S
from vitalgate.stream.recorded import Recorded

PATIENTS = (2000, 1500, 1000, 700, 500, 350, 250)
LIMIT_S = 5.0
#: Blocks look so far back; before that, a line costs less than it will.
_WARM_S = 20
_PATIENCE_S = 60.0
_CATCH_UP_S = 300.0


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section: fewer and fewer patients until their p99 lag is below the limit."""
    attempts: list[dict[str, Any]] = []
    for wanted in PATIENTS:
        patients = max(10, int(wanted * scale))
        try:
            found = _attempt(bed, f"e{wanted}", patients, int(seconds) + _WARM_S, tell)
        except BenchError as error:
            attempts.append({"patients": patients, "held": False, "detail": str(error)})
            tell(f"{patients}: {error}")
            if not _caught_up(bed):  # what is behind would be measured with the next
                break
            continue
        attempts.append(found)
        tell(
            f"{patients}: rows {found['device_to_row']}, beats {found['device_to_beats']}, missing "
            f"{found['rows_missing']} rows and {found['blocks_missing']} blocks"
        )
        if found["held"]:
            break
    return {
        "held": max((one["patients"] for one in attempts if one["held"]), default=0),
        "limit_s": LIMIT_S,
        "look_ahead_s": AFTER_S,
        "attempts": attempts,
    }


def _caught_up(bed: Bed) -> bool:
    """Wait until every raw record is in the ledger; False when that takes too long."""
    recorded = Recorded(bed.settings)
    ends = recorded.ends()
    until = time.monotonic() + _CATCH_UP_S
    while not recorded.covers(ends):
        if time.monotonic() > until:
            return False
        time.sleep(1)
        recorded.begin_round()
    time.sleep(bed.settings.analysis.idle_s + 5)  # what is analysed comes after
    return True


def _attempt(bed: Bed, name: str, patients: int, seconds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    wearers, _ = load.cast(name, patients, 0)
    tell(f"{patients} patients, {seconds} s")
    bed.enrol(wearers)
    load.packed_seconds()
    time.sleep(2)
    count = patients * seconds
    departures = load.Departures(load.recordings(wearers, seconds, name, now()))
    with BeatsWatch(bed.settings) as beats, CommitWatch(bed.settings, 0.05) as watch:
        before = processes.cpu_seconds(bed.stack)
        sent = publish(bed, departures, count, patients)
        watch.wait(count, _PATIENCE_S)
        after = processes.cpu_seconds(bed.stack)
        beats.settle(bed.settings.analysis.idle_s + 5)
    rows = watch.lags(departures.sent, [wearer.device for wearer in wearers])
    final = _beat_lags(departures.sent, beats.blocks)
    expected = _expected(departures.sent)
    row, beat = percentiles(rows), percentiles(np.array(final))
    complete = len(rows) == count and len(final) == expected
    limit = LIMIT_S * 1000
    held = complete and bool(final) and (row["p99_ms"] or 0) < limit and (beat["p99_ms"] or 0) < limit
    return {
        "patients": patients,
        "seconds": seconds,
        "packets_per_s": round(sent.messages / sent.seconds, 1),
        "device_to_row": row,
        "device_to_beats": beat,
        "blocks_missing": expected - len(final),
        "rows_missing": count - len(rows),
        "held": held,
        "balanced": balanced(bed.settings),
        "cpu_ms_per_1000": {k: round(v, 1) for k, v in processes.per_thousand(before, after, count).items()},
    }


def _completing(block: int) -> int:
    """The seq of the packet with the last sample that a block depends on; packet n is second n, and has seq n + 1."""
    return int(np.ceil((block + 1) * BLOCK_S + AFTER_S))


def _beat_lags(sent: dict[tuple[str, int], float], blocks: dict[tuple[str, int], float]) -> list[float]:
    """Seconds from the publish of the sample that made a block final to its beats on Kafka."""
    return [
        at - sent[device, _completing(block)]
        for (device, block), at in blocks.items()
        if (device, _completing(block)) in sent
    ]


def _expected(sent: dict[tuple[str, int], float]) -> int:
    """Blocks with a sample in them that became final while sending."""
    first: dict[str, int] = {}
    for device, seq in sent:
        first[device] = min(seq, first.get(device, seq))
    count = 0
    for device, seq in sent:
        block = (seq - int(AFTER_S)) // BLOCK_S - 1
        count += block >= 0 and _completing(block) == seq and (block + 1) * BLOCK_S >= first[device]
    return count


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"held: {found['held']:,} patients at 250 Hz with p99 below {found['limit_s']:g} s (aim 2,000). A block of "
        f"{BLOCK_S} s is final {found['look_ahead_s']:g} s after its end, by definition: that is not in these lags.",
    ]
    for one in found["attempts"]:
        if "detail" in one:
            lines.append(f"{one['patients']:,} patients: not held, {one['detail']}")
            continue
        row, beat = one["device_to_row"], one["device_to_beats"]
        lines.append(
            f"{one['patients']:,} patients, {one['packets_per_s']:,.0f} packets/s for {one['seconds']} s: "
            f"{'held' if one['held'] else 'not held'}"
        )
        for name, lag, missing in (
            ("committed row", row, one["rows_missing"]), ("published beats", beat, one["blocks_missing"]),
        ):  # fmt: skip
            lines.append(
                f"  to {name:<16} p50 {lag['p50_ms']} ms, p99 {lag['p99_ms']} ms of {lag['count']:,}; {missing} missing"
            )
        lines.append(f"  CPU {sum(one['cpu_ms_per_1000'].values()):.0f} ms per 1,000 packets, of which:")
        lines += [f"  {name:<20}{value:>8.1f}" for name, value in one["cpu_ms_per_1000"].items() if value >= 0.05]
    lines.append(f"Detector's memory: {BEFORE_S:g} s back.")
    return lines
