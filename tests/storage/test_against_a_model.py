"""Random histories, interleaved, resent, batched and interrupted at random, against a few lines of reference model."""

from __future__ import annotations

import itertools
import random
from typing import Any, NamedTuple

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.devices.records import Corrects, Message
from vitalgate.storage import ledger
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.waveforms import read_samples

_numbers = itertools.count(1)
CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


class Said(NamedTuple):
    """What one numbered message of the device says."""

    time: int
    value: int
    about: int
    """0: nothing earlier; n: corrects what the n-th message before it said."""
    retract: bool


SAID = st.lists(
    st.builds(Said, st.integers(0, 2), st.integers(1, 3), st.sampled_from([0, 0, 0, 1, 2, 3]), st.booleans()),
    min_size=1,
    max_size=7,
)


def _target(said: list[Said], n: int) -> int | None:
    """Index of the message that message n corrects; retractions are not corrected here."""
    at = n - said[n].about
    return at if said[n].about and at >= 0 and not _retracts(said, at) else None


def _retracts(said: list[Said], n: int) -> bool:
    return said[n].retract and _target(said, n) is not None


def _message(said: list[Said], n: int, device: str, log: Log, repeat: bool) -> Message:
    target = _target(said, n)
    retract = _retracts(said, n)
    corrects = None if target is None else Corrects("e1", target + 1, 0, retract=retract)
    item = reading(None if retract else float(said[n].value), time_us=T0 + said[n].time * SECOND, corrects=corrects)
    return log.message(device, n + 1, readings=[item], repeat=repeat, payload=f"{device} {n}".encode())


def _expected(said: list[Said]) -> list[tuple[Any, ...]]:
    """(time, version, value, current): runs of equal values of each measurement in the device's order."""
    sightings: dict[int, dict[int, float | None]] = {}
    for n, what in enumerate(said):
        target = _target(said, n)
        if _retracts(said, n):
            assert target is not None
            sightings.setdefault(said[target].time, {})[n] = None
            continue
        sightings.setdefault(what.time, {})[n] = float(what.value)
        if target is not None and said[target].time != what.time:
            sightings.setdefault(said[target].time, {})[n] = None
    rows = []
    for time, by_order in sightings.items():
        runs = [value for value, _ in itertools.groupby(by_order[n] for n in sorted(by_order))]
        rows += [(time, k, value, k == len(runs)) for k, value in enumerate(runs, 1)]
    return sorted(rows, key=lambda row: row[:2])


def _stored(query: Query, device: str) -> list[tuple[Any, ...]]:
    rows = query(
        "SELECT time, version, value_num, current, retracted FROM readings WHERE device_id = %s ORDER BY 1, 2", device
    )
    return [
        (round(time.timestamp() - T0 / 1e6), *rest) for time, *rest, retracted in rows if retracted == (rest[1] is None)
    ]


def _apply(database: DatabaseSettings, log: Log, messages: list[Message], chance: random.Random) -> None:
    """In random batches, with a new recorder now and then and batches that come twice."""
    recorder = Recorder(database, KafkaSettings())
    try:
        while messages:
            size = chance.randint(1, 4)
            part, messages = messages[:size], messages[size:]
            batch = log.batch(*part)
            recorder.apply(msgspec.convert(msgspec.to_builtins(batch), type(batch)))
            if chance.random() < 0.3:
                recorder.close()
                recorder = Recorder(database, KafkaSettings())
            if chance.random() < 0.3:
                assert recorder.apply(batch).messages == 0
    finally:
        recorder.close()


@given(said=SAID, seed=st.integers(0, 10_000))
@example(said=[Said(0, 1, 0, False), Said(0, 1, 0, False), Said(1, 1, 1, False)], seed=1)
@example(said=[Said(0, 1, 0, False), Said(0, 1, 1, True), Said(0, 1, 2, True), Said(0, 1, 0, False)], seed=2)
@settings(max_examples=30, deadline=None, suppress_health_check=CHECKS)
def test_readings(database: DatabaseSettings, query: Query, said: list[Said], seed: int) -> None:
    chance = random.Random(seed)
    number = next(_numbers)
    device, log = f"d{number}", Log(partition=number)
    arrivals = [*range(len(said)), *chance.choices(range(len(said)), k=chance.randint(0, 3))]
    chance.shuffle(arrivals)
    messages = []
    for place, n in enumerate(arrivals):
        messages.append(_message(said, n, device, log, repeat=n in arrivals[:place]))
    _apply(database, log, messages, chance)
    assert _stored(query, device) == _expected(said)
    found = ledger.read(database)
    assert found.balanced, found.faults


BLOCKS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8), st.integers(0, 2)), min_size=1, max_size=6)


@given(blocks=BLOCKS, seed=st.integers(0, 10_000))
@example(blocks=[(0, 1, 0), (0, 3, 0), (0, 3, 1), (2, 1, 0)], seed=0)
@settings(max_examples=25, deadline=None, suppress_health_check=CHECKS)
def test_waveforms(database: DatabaseSettings, query: Query, blocks: list[tuple[int, int, int]], seed: int) -> None:
    chance = random.Random(seed)
    number = next(_numbers)
    device, log = f"w{number}", Log(partition=number)
    expected: dict[int, int] = {}
    for first, count, value in blocks:
        expected.update({sample: value * 100 + sample % 3 for sample in range(first, first + count)})
    arrivals = [*range(len(blocks)), *chance.choices(range(len(blocks)), k=chance.randint(0, 2))]
    chance.shuffle(arrivals)
    messages = []
    for place, n in enumerate(arrivals):
        first, count, value = blocks[n]
        w = waveform([value * 100 + sample % 3 for sample in range(first, first + count)], first=first)
        messages.append(
            log.message(device, n + 1, waveforms=[w], repeat=n in arrivals[:place], payload=f"{device} {n}".encode())
        )
    _apply(database, log, messages, chance)
    found = read_samples(database, device, "ecg.II", "r1", 0, 24)
    assert found is not None
    there = {int(k): int(found.samples[k]) for k in range(24) if found.present[k]}
    assert there == expected
    assert query("SELECT sum(n_items) <= %s FROM waveforms WHERE device_id = %s", len(blocks), device) == [(True,)]
    account = ledger.read(database)
    assert account.balanced, account.faults
