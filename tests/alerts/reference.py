"""A reference model of the alert rules: sees everything at once, in order, and keeps nothing. Slow and plain."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from vitalgate.alerts.conditions import Event, Threshold, Trend
from vitalgate.alerts.rule import Rule
from vitalgate.devices.records import NO_SEQ, PatientInput

Sample = tuple[int, float]
Rank = tuple[int, int, int]
#: metric, time, device, site, index
Identity = tuple[str, int, str, str, int]


def standing(inputs: Iterable[PatientInput]) -> dict[str, list[Sample]]:
    """By metric (time, value) of every measurement, the version of highest rank of each, in order."""
    versions: dict[Identity, dict[Rank, float]] = {}
    by_name: dict[tuple[str, str, int, int], Identity] = {}
    taken_back: list[tuple[Any, Rank, Identity, bool]] = []
    for record in inputs:
        message = record.message
        for reading in message.readings:
            own = (reading.metric, reading.time_us, message.device, reading.site, reading.index)
            rank = (message.epoch_no, message.order, reading.item)
            corrects = reading.corrects
            if corrects is not None:
                if corrects.seq != NO_SEQ:
                    epoch = corrects.epoch or message.epoch
                    target: Any = ("name", message.device, epoch, corrects.seq, corrects.index)
                else:
                    target = (own[0], corrects.time_us if corrects.time_us is not None else own[1], *own[2:])
                taken_back.append((target, rank, own, corrects.retract))
                if corrects.retract:
                    continue
            versions.setdefault(own, {})[rank] = math.nan if reading.value_num is None else reading.value_num
            by_name[message.device, message.epoch, message.seq, reading.item] = own
    for target, rank, own, retract in taken_back:
        meant = by_name.get(target[1:]) if target[0] == "name" else target
        if meant is not None and (meant != own or retract):
            versions.setdefault(meant, {})[rank] = math.nan
    found: dict[str, list[Sample]] = {}
    for identity, sightings in sorted(versions.items()):
        value = _current(sightings)
        if not math.isnan(value):
            found.setdefault(identity[0], []).append((identity[1], value))
    return found


def _current(sightings: dict[Rank, float]) -> float:
    numbered = {rank: value for rank, value in sightings.items() if rank[0]}
    if numbered:
        return numbered[max(numbered)]
    first: dict[str, tuple[Rank, float]] = {}
    for rank, value in sorted(sightings.items()):
        first.setdefault(repr(value), (rank, value))
    return max(first.values(), key=lambda pair: pair[0])[1]


def intervals(rule: Rule, samples: dict[str, list[Any]]) -> list[tuple[int, int | None]]:
    """(onset, end) in microseconds; ``samples`` by metric: (time, value), of events (start, end, value)."""
    parts: list[tuple[int, float]] = []
    for condition in rule.when:
        if isinstance(condition, Threshold):
            parts += _threshold(condition, samples.get(condition.metric, []))
        elif isinstance(condition, Trend):
            parts += _trend(condition, samples.get(condition.metric, []))
        else:
            parts += _event(condition, samples.get(condition.event, []))
    joined: list[tuple[int, float]] = []
    for onset, end in sorted(parts):
        if joined and onset <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((onset, end))
    return settled(rule, joined)


def settled(rule: Rule, spans: list[tuple[int, float]]) -> list[tuple[int, int | None]]:
    """What comes again within the settle time is the same."""
    joined: list[tuple[int, float]] = []
    for onset, end in spans:
        if joined and onset <= joined[-1][1] + rule.settle_s * 1e6:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((onset, end))
    return [(onset, None if end == math.inf else int(end)) for onset, end in joined]


def _bad(c: Threshold, value: float) -> bool:
    if c.below is not None:
        return value < c.below
    if c.at_most is not None:
        return value <= c.at_most
    if c.above is not None:
        return value > c.above
    assert c.at_least is not None
    return value >= c.at_least


def _well(c: Threshold, value: float) -> bool:
    if c.clear is None:
        return not _bad(c, value)
    return value >= c.clear if c.low else value <= c.clear


def _run_end(samples: list[Sample], begin: int, good: Any, for_s: float, gap_s: float) -> int | None:
    """Index at which a run of good samples that starts at ``begin`` has lasted long enough."""
    for k in range(begin, len(samples)):
        if not good(samples[k][1]) or (k > begin and samples[k][0] - samples[k - 1][0] > gap_s * 1e6):
            return None
        if samples[k][0] - samples[begin][0] >= for_s * 1e6:
            return k
    return None


def _threshold(c: Threshold, samples: list[Sample]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    k = 0
    while k < len(samples):
        done = _run_end(samples, k, lambda v: _bad(c, v), c.for_s, c.max_gap_s)
        if done is None:
            k += 1
            continue
        end, after = math.inf, len(samples)
        for j in range(done + 1, len(samples)):
            well = _run_end(samples, j, lambda v: _well(c, v), c.clear_for_s, c.max_gap_s)
            if well is not None:
                end, after = samples[well][0], well + 1
                break
        found.append((samples[k][0], end))
        k = after
    return found


def _trend(c: Trend, samples: list[Sample]) -> list[tuple[int, float]]:
    differences = []
    for k, (time, value) in enumerate(samples):
        window = [v for t, v in samples[: k + 1] if t >= time - c.within_s * 1e6]
        change = value - min(window) if c.rise is not None else max(window) - value
        differences.append((time, round(change, 6)))
    limit = Threshold(metric=c.metric, at_least=c.limit, clear=c.clear)
    return _threshold(limit, differences)


def _event(c: Event, events: list[tuple[int, int, float]]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for start, end, value in sorted(events):
        if (c.at_least is not None and value < c.at_least) or (c.at_most is not None and value > c.at_most):
            continue
        if found and start <= found[-1][1] + c.quiet_s * 1e6:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return [(start, end + c.quiet_s * 1e6) for start, end in found]
