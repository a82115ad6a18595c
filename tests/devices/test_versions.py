"""Versions are a function of what was said, not of when it came; items are conserved."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.devices.records import Corrects, Reading
from vitalgate.devices.versions import (
    MAX_SEEN,
    RETRACTED,
    Key,
    Outcome,
    Row,
    Sighting,
    Value,
    flat,
    merge,
    unflat,
    value_of,
)

VALUES = [Value(95.0), Value(97.0), Value(None, "A"), RETRACTED]
NUMBERED = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(0, 1))
NUMBERLESS = st.tuples(st.just(0), st.integers(100, 110), st.integers(0, 1))


def said(*values: float, epoch_no: int = 1) -> list[Sighting[Value]]:
    return [Sighting((epoch_no, n, 0), Value(value)) for n, value in enumerate(values, 1)]


def run(*batches: list[Sighting[Value]]) -> tuple[list[Row[Value]], int, int, list[Outcome]]:
    rows: list[Row[Value]] = []
    added = duplicates = 0
    outcomes: list[Outcome] = []
    for batch in batches:
        merged = merge(rows, batch)
        accepted = sum(outcome is not Outcome.SEQUENCE_REUSED for outcome in merged.outcomes)
        assert merged.added + merged.duplicates == accepted
        assert len(merged.rows) == len(rows) + merged.added
        rows = merged.rows
        added += merged.added
        duplicates += merged.duplicates
        outcomes += merged.outcomes
    return rows, added, duplicates, outcomes


def shape(rows: list[Row[Value]]) -> list[tuple[int, Value, tuple[Key, ...], bool]]:
    return [(row.version, row.value, row.seen, row.current) for row in rows]


@settings(max_examples=300)
@given(st.dictionaries(NUMBERED | NUMBERLESS, st.sampled_from(VALUES), max_size=14), st.data())
def test_any_order_and_any_batching_give_the_same_versions(history: dict[Key, Value], data: st.DataObject) -> None:
    sightings = [Sighting(key, value) for key, value in history.items()]
    together, *_ = run(sightings)
    shuffled = data.draw(st.permutations(sightings))
    repeats = data.draw(st.lists(st.sampled_from(shuffled), max_size=5)) if shuffled else []
    mixed = [*shuffled, *repeats]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(mixed)), max_size=4)))
    batches = [mixed[a:b] for a, b in pairwise([0, *cuts, len(mixed)])]
    rows, added, duplicates, outcomes = run(*batches)
    assert shape(rows) == shape(together)
    assert Outcome.SEQUENCE_REUSED not in outcomes
    assert added + duplicates == len(mixed)
    assert [row.version for row in rows] == list(range(1, len(rows) + 1))
    assert [row.current for row in rows] == [False] * (len(rows) - 1) + [True] * bool(rows)


@given(st.dictionaries(NUMBERED, st.sampled_from(VALUES), min_size=1, max_size=14))
def test_numbered_versions_are_runs_in_device_order(history: dict[Key, Value]) -> None:
    rows, *_ = run([Sighting(key, value) for key, value in history.items()])
    expected: list[Value] = []
    for key in sorted(history):
        if not expected or expected[-1] != history[key]:
            expected.append(history[key])
    assert [row.value for row in rows] == expected
    assert sorted(key for row in rows for key in row.seen) == sorted(history)


@given(st.lists(st.tuples(NUMBERLESS, st.sampled_from(VALUES)), max_size=14))
def test_without_numbers_a_known_value_is_a_duplicate(said_: list[tuple[Key, Value]]) -> None:
    history = dict(said_)
    rows, *_ = run([Sighting(key, value) for key, value in history.items()])
    assert [row.value for row in rows] == list(dict.fromkeys(history[key] for key in sorted(history)))


def test_a_correction_a_repeat_and_a_way_back() -> None:
    rows, added, duplicates, outcomes = run(said(97, 97, 95, 97))
    assert [row.value.num for row in rows] == [97, 95, 97]
    assert (added, duplicates) == (3, 1)
    assert outcomes == [Outcome.STORED, Outcome.DUPLICATE, Outcome.STORED, Outcome.STORED]
    assert [row.seen for row in rows] == [((1, 1, 0), (1, 2, 0)), ((1, 3, 0),), ((1, 4, 0),)]


def test_a_late_correction_splits_a_run() -> None:
    first, second, third = said(97, 95, 97)
    rows, added, duplicates, outcomes = run([first], [third], [second])
    assert [row.value.num for row in rows] == [97, 95, 97]
    assert (added, duplicates) == (3, 0)
    assert outcomes == [Outcome.STORED, Outcome.DUPLICATE, Outcome.STORED]
    before = merge([], [first, third]).rows
    merged = merge(before, [second])
    assert (merged.added, merged.duplicates) == (2, -1)
    assert [(row.origin, row.sighting) for row in merged.rows] == [(0, None), (None, 0), (0, None)]
    assert merged.changed(before)
    assert not merge(merged.rows, [second, first]).changed(merged.rows)


def test_other_content_under_a_used_key_is_refused() -> None:
    (first,) = said(97)
    merged = merge(merge([], [first]).rows, [Sighting(first.key, Value(95.0)), first])
    assert merged.outcomes == [Outcome.SEQUENCE_REUSED, Outcome.DUPLICATE]
    assert (merged.added, merged.duplicates) == (0, 1)


def test_a_much_repeated_measurement_forgets_the_middle() -> None:
    rows, added, duplicates, _ = run(*[[Sighting((1, n, 0), Value(80.0))] for n in range(1, 500)])
    (row,) = rows
    assert len(row.seen) == MAX_SEEN
    assert (row.first, row.last) == ((1, 1, 0), (1, 499, 0))
    assert (added, duplicates) == (1, 498)


def test_keys_go_into_an_array_column_and_back() -> None:
    keys = ((0, 5, 1), (2, 9, 0))
    assert unflat(flat(keys)) == keys


def test_the_value_of_a_reading() -> None:
    reading = Reading(0, "spo2", "finger", 0, 0, 97.0, None, "<", "", "%", 97.0, "%", 0, 0, "g")
    assert value_of(reading) == Value(97.0, None, "<", "")
    reading.corrects = Corrects(time_us=5, retract=True)
    assert value_of(reading) == RETRACTED
