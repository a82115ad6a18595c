"""The acker: in order, without a hole, never beyond what was handed over, and deaf after a reset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.stream.acks import Acker, HoleError

STEPS = st.lists(
    st.tuples(st.sampled_from(["hand", "again", "durable", "all", "reset"]), st.integers(0, 2), st.integers(0, 30)),
    max_size=200,
)


@given(STEPS)
def test_what_is_acknowledged_was_handed_over_and_said_to_be_durable(steps: list[tuple[str, int, int]]) -> None:
    told: list[tuple[int, int]] = []
    acker = Acker(lambda _topic, partition, offset: told.append((partition, offset)))
    handed: dict[int, range] = {}
    said: dict[int, int] = {}
    for step, partition, number in steps:
        there = handed.get(partition)
        if step == "hand":
            offset = number if there is None else there.stop
            assert acker.handed("t", partition, offset)
            handed[partition] = range(offset if there is None else there.start, offset + 1)
        elif step == "again":
            if there is not None:
                assert not acker.handed("t", partition, min(number, there.stop - 1))
        elif step == "durable":
            acker.durable("t", partition, number)
            if there is not None:
                said[partition] = max(number, said.get(partition, -1))
        elif step == "all":
            acker.durable_all()
            said |= {one: max(offsets.stop - 1, said.get(one, -1)) for one, offsets in handed.items()}
        else:
            acker.reset()
            told.clear()
            handed.clear()
            said.clear()
        for one in {p for p, _ in told}:
            offsets = [offset for p, offset in told if p == one]
            assert offsets == sorted(set(offsets))
            assert offsets[-1] in handed[one]
            assert offsets[-1] <= said[one]
            assert acker.next("t", one) == offsets[-1] + 1


def test_a_hole_is_not_stepped_over() -> None:
    acker = Acker(lambda *_: None)
    acker.handed("t", 0, 7)
    acker.handed("t", 1, 3)
    with pytest.raises(HoleError, match=r"t/0: offset 9 came after 7"):
        acker.handed("t", 0, 9)


def test_next_is_the_first_that_is_not_durable() -> None:
    acker = Acker(lambda *_: None)
    assert acker.next("t", 0) is None
    for offset in (7, 8, 9):
        acker.handed("t", 0, offset)
    assert acker.next("t", 0) == 7
    acker.durable("t", 0, 8)
    assert acker.next("t", 0) == 9
    acker.durable_all()
    assert acker.next("t", 0) == 10
