"""What intake sends on: batches are consecutive, complete and bounded; every item goes to its patient and no other."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vitalgate.devices.records import Dead, Message, Reading, Status, ValidatedBatch, Waveform, decode_batch
from vitalgate.stream.outputs import MAX_BATCH_BYTES, batches, inputs
from vitalgate.stream.recorder import MAX_MESSAGES, merged


def message(offset: int, times: list[int] | None = None, payload: int = 0, blocks: list[int] | None = None) -> Message:
    readings = [
        Reading(n, "spo2", "", time, 0, 97.0, None, "", "", "%", 97.0, "%", time, 0)
        for n, time in enumerate(times or [])
    ]
    waveforms = [
        Waveform(100 + n, "pleth", "r", 0, 10, time, 75, 1, 1.0, 0.0, "1", b"\0" * 40)
        for n, time in enumerate(blocks or [])
    ]
    dead = [Dead(-1, "schema", "x")] if payload else []
    return Message(
        "d", "readings", offset, 0, "t", "e", offset, 1, offset, False, 0, b"h" * 16, b"c" * 8, readings, waveforms,
        dead=dead, payload=b"p" * payload, mqtt_topic="v1/devices/d/readings" if dead else "",
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0, 10, 400_000, 1_000_000])), max_size=30))
def test_batches_hold_every_message_in_consecutive_runs(steps: list[tuple[int, int]]) -> None:
    offset, messages = 0, []
    for step, payload in steps:
        offset += step
        messages.append(message(offset, [1], payload))
    made = list(batches(3, messages, "by"))
    assert [one.offset for batch, _ in made for one in batch.messages] == [one.offset for one in messages]
    for batch, data in made:
        assert [one.offset for one in batch.messages] == list(range(batch.first, batch.last + 1))
        assert len(data) <= MAX_BATCH_BYTES
        assert decode_batch(data).last == batch.last
    for (before, _), (after, _) in itertools.pairwise(made):
        assert before.last < after.first


def patient_at(_device: str, time_us: int) -> str | None:
    return {0: None, 1: "a", 2: "b"}[time_us // 100 % 3]


@given(st.lists(st.integers(0, 2000), max_size=6), st.lists(st.integers(0, 2000), max_size=3), st.booleans())
def test_every_item_goes_to_whoever_had_the_device_then(times: list[int], blocks: list[int], status: bool) -> None:
    whole = message(1, times, 5, blocks)
    whole.status = Status(200, "online", 150) if status else None
    found = {one.patient: one.message for one in inputs(whole, patient_at)}
    for patient in ("a", "b"):
        part = found.get(patient) or message(1)
        assert [r.time_us for r in part.readings] == [t for t in times if patient_at("d", t) == patient]
        assert [w.start_us for w in part.waveforms] == [t for t in blocks if patient_at("d", t) == patient]
    assert ("a" in found and found["a"].status is not None) == status
    for part in found.values():
        assert part.items() > 0
        assert (part.dead, part.payload, part.mqtt_topic) == ([], b"", "")
    assert whole.dead
    assert len(whole.payload) == 5


def batch(partition: int, first: int, last: int) -> ValidatedBatch:
    return ValidatedBatch(partition, first, last, [message(offset) for offset in range(first, last + 1)], "by")


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 60), st.integers(0, 30)), max_size=20))
def test_merged_batches_keep_every_offset_and_the_order(rows: list[tuple[int, int, int]]) -> None:
    made = list(merged(batch(partition, first, first + more) for partition, first, more in rows))
    for one in made:
        assert [m.offset for m in one.messages] == list(range(one.first, one.last + 1))
    for partition in (0, 1):
        given_ = {n for p, first, more in rows if p == partition for n in range(first, first + more + 1)}
        assert {n for one in made if one.partition == partition for n in range(one.first, one.last + 1)} == given_


def test_consecutive_batches_become_one_and_a_hole_ends_a_run() -> None:
    made = list(merged([batch(0, 0, 4), batch(0, 5, 9), batch(0, 8, 12), batch(0, 3, 6), batch(0, 14, 15)]))
    assert [(one.first, one.last) for one in made] == [(0, 12), (14, 15)]
    big = [batch(0, n * 500, n * 500 + 499) for n in range(6)]
    assert [len(one.messages) for one in merged(big)] == [MAX_MESSAGES, 1000]
