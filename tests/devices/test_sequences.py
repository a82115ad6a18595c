"""Receipts claim what was kept and nothing else, in any order of arrival."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vitalgate.devices import sequences
from vitalgate.devices.records import DeviceSequences, Kept, decode_sequences, encode

from .support import Feed, spo2

NUMBER = st.integers(0, 40)


def claimed(kept: Kept) -> set[int]:
    """All numbers that a receipt of this epoch would claim, from 1 (0 is not counted by the prefix)."""
    inside = set(range(1, kept.through + 1))
    for start, stop in kept.beyond:
        assert start > kept.through
        inside |= set(range(start, stop + 1))
    return inside


@given(st.lists(NUMBER, max_size=60))
def test_what_is_claimed_is_what_was_kept(numbers: list[int]) -> None:
    kept = Kept("e", 1, sequences.NOTHING)
    seen: set[int] = set()
    for now, number in enumerate(numbers, 1):
        assert sequences.contains(kept, number) == (number in seen)
        kept = sequences.add(kept, number, now)
        seen.add(number)
        assert claimed(kept) - {0} == seen - {0}
        assert sequences.highest(kept) == max(seen)
        missing = {n for start, stop in sequences.gaps(kept) for n in range(start, stop + 1)}
        assert missing == set(range(1, max(seen) + 1)) - seen
        assert (kept.gap_since_us > 0) == bool(kept.beyond)
        assert kept.beyond == sorted(kept.beyond)
        assert all(a[1] + 1 < b[0] for a, b in zip(kept.beyond, kept.beyond[1:], strict=False))


@given(st.lists(st.tuples(st.booleans(), st.lists(NUMBER, min_size=1, max_size=4)), max_size=30))
def test_numbers_declared_lost_fill_gaps_and_may_still_come(steps: list[tuple[bool, list[int]]]) -> None:
    kept = Kept("e", 1, sequences.NOTHING)
    come: set[int] = set()
    lost: set[int] = set()
    for now, (is_lost, numbers) in enumerate(steps, 1):
        if is_lost:
            kept = sequences.declare_lost(kept, numbers, now)
            lost |= set(numbers) - come
        else:
            for number in numbers:
                kept = sequences.add(kept, number, now)
                come.add(number)
                lost.discard(number)
        assert claimed(kept) - {0} == (come | lost) - {0}
        for number in range(1, 41):
            assert sequences.contains(kept, number) == (number in come)


def test_the_first_number_seen_is_no_beginning_unless_0_or_1() -> None:
    start = Kept("e", 1, sequences.NOTHING)
    assert sequences.add(start, 17, 5) == Kept("e", 1, -1, [(17, 17)], [], 5)
    assert sequences.add(start, 1, 5).through == 1
    assert sequences.add(start, 0, 5).through == 0
    assert sequences.gaps(sequences.add(start, 17, 5)) == [(1, 16)]


def test_too_many_ranges_are_forgotten_from_the_top() -> None:
    kept = Kept("e", 1, sequences.NOTHING)
    for number in range(2, 2 * sequences.MAX_RANGES + 20, 2):
        kept = sequences.add(kept, number, 1)
    assert len(kept.beyond) == sequences.MAX_RANGES
    assert not sequences.contains(kept, 2 * sequences.MAX_RANGES + 10)


def test_a_state_survives_its_packing() -> None:
    feed = Feed()
    feed.send({"epoch": "e", "seq": 3, "sent_at": "2026-11-21T10:00:00Z", "lost": [1], "readings": [spo2(), spo2(200)]})
    assert feed.state is not None
    assert decode_sequences(encode(feed.state)) == feed.state


def receipt(feed: Feed, since_us: int | None = None) -> list[dict[str, Any]]:
    assert feed.state is not None
    return sequences.receipts(feed.state, since_us)


def test_a_receipt_tells_what_is_kept_and_what_was_refused() -> None:
    feed = Feed()
    feed.send({"epoch": "k3f9", "seq": 1, "readings": [spo2()]})
    feed.send({"epoch": "k3f9", "seq": 2, "readings": [spo2(), spo2(120)]})
    feed.send({"epoch": "k3f9", "seq": 5, "readings": "none"})
    (told,) = receipt(feed)
    assert (told["epoch"], told["kept_through"], told["beyond"]) == ("k3f9", 2, [[5, 5]])
    assert [(entry["seq"], entry["reason"]) for entry in told["rejected"]] == [(2, "out_of_range"), (5, "schema")]
    assert told["rejected"][0]["detail"].startswith("item 1: spo2 120")


def test_a_resend_is_told_again_and_only_touched_epochs_are_told() -> None:
    feed = Feed()
    feed.send({"epoch": "a", "seq": 1, "readings": [spo2(120)]})
    feed.send({"epoch": "b", "seq": 1, "readings": [spo2()]}, seconds=2)
    assert [told["epoch"] for told in receipt(feed)] == ["a", "b"]
    assert feed.state is not None
    feed.state = sequences.begin(feed.state)
    assert receipt(feed) == []
    message = feed.send({"epoch": "a", "seq": 1, "readings": [spo2(120)]}, seconds=900)
    assert message.repeat
    (told,) = receipt(feed)
    assert [(entry["seq"], entry["reason"]) for entry in told["rejected"]] == [(1, "out_of_range")]
    assert receipt(feed, since_us=feed.state.updated_us + 1)[0]["rejected"] == []


def test_old_epochs_are_forgotten_and_order_is_by_first_sight() -> None:
    feed = Feed()
    numbers = [
        feed.send({"epoch": f"e{n}", "seq": 1, "readings": [spo2()]}).epoch_no for n in range(sequences.MAX_EPOCHS + 5)
    ]
    assert numbers == list(range(1, sequences.MAX_EPOCHS + 6))
    assert feed.state is not None
    assert len(feed.state.epochs) == sequences.MAX_EPOCHS
    assert feed.send({"epoch": "e20", "seq": 2, "readings": [spo2()]}).epoch_no == 21


def test_copies_leave_the_original_alone() -> None:
    state = DeviceSequences("d", 5, touched=["a"])
    assert sequences.begin(state).touched == []
    assert state.touched == ["a"]
    cleared = sequences.begin(state)
    assert sequences.begin(cleared) is cleared
