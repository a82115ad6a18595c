"""Overlapping blocks end in the same samples whatever their order of arrival; nothing is counted twice or lost."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.devices.overlap import Block, Piece, Placed, Scale, final, place, reach
from vitalgate.devices.versions import Key, Outcome

ECG = Scale(250, 1, 200.0, 0.0, "mV")


def block(key: Key, first: int, *samples: int, scale: Scale = ECG) -> Block:
    return Block(key, first, struct.pack(f"<{len(samples)}i", *samples), scale)


def numbers(piece: Piece) -> list[int]:
    return list(struct.unpack(f"<{piece.size}i", piece.samples))


def signal(pieces: list[Piece]) -> dict[int, int]:
    out: dict[int, int] = {}
    for piece in final(pieces):
        for n, value in enumerate(numbers(piece)):
            assert piece.first + n not in out
            out[piece.first + n] = value
    return out


def run(*batches: list[Block]) -> tuple[list[Piece], int, int]:
    pieces: list[Piece] = []
    stored = duplicates = 0
    for batch in batches:
        # Storage reads only what the new blocks may change: of the rest nothing is known, and nothing may become of it.
        first, stop = reach(pieces, [(new.first, new.stop) for new in batch]) if batch else (0, 0)
        near = [piece for piece in pieces if piece.first < stop and first < piece.stop]
        placed = place(near, batch)
        pieces = [piece for piece in pieces if piece not in near] + placed.pieces
        stored += placed.stored
        duplicates += placed.duplicates
        assert placed.stored + placed.duplicates == sum(o is not Outcome.SEQUENCE_REUSED for o in placed.outcomes)
    assert sum(piece.items for piece in pieces) == stored
    return pieces, stored, duplicates


def history(pieces: list[Piece]) -> list[tuple[int, int, int, bool, tuple[Key, ...]]]:
    """Version and history of every sample, however it is cut into pieces."""
    return sorted(
        (piece.first + n, piece.version, value, piece.current, piece.seen)
        for piece in pieces
        for n, value in enumerate(numbers(piece))
    )


BLOCKS = st.dictionaries(
    st.tuples(st.integers(1, 2), st.integers(1, 6), st.just(0)),
    st.tuples(st.integers(0, 12), st.lists(st.integers(0, 1), min_size=1, max_size=8)),
    max_size=7,
)


@settings(max_examples=200)
@given(BLOCKS, st.data())
def test_any_order_of_arrival_ends_in_the_same_samples(
    said: dict[Key, tuple[int, list[int]]], data: st.DataObject
) -> None:
    blocks = [block(key, first, *samples) for key, (first, samples) in said.items()]
    together, *_ = run(blocks)
    shuffled = data.draw(st.permutations(blocks))
    repeats = data.draw(st.lists(st.sampled_from(shuffled), max_size=3)) if shuffled else []
    mixed = [*shuffled, *repeats]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(mixed)), max_size=3)))
    pieces, stored, duplicates = run(*(mixed[a:b] for a, b in pairwise([0, *cuts, len(mixed)])))
    assert history(pieces) == history(together)
    assert stored + duplicates == len(mixed)
    expected: dict[int, int] = {}
    for key in sorted(said):
        first, samples = said[key]
        expected.update({first + n: value for n, value in enumerate(samples)})
    assert signal(pieces) == expected


def test_a_superseded_piece_alone_in_sight_does_not_come_back() -> None:
    pieces, *_ = run([block((1, 4, 0), 2, 2)], [block((1, 3, 0), 0, 9, 9, 9), block((1, 2, 0), 1, 1, 2)])
    assert signal(pieces) == {0: 9, 1: 9, 2: 2}
    pieces, *_ = run([block((1, 3, 0), 0, 9, 9, 9), block((1, 2, 0), 0, 1, 1, 2)], [block((1, 4, 0), 2, 2)])
    assert signal(pieces) == {0: 9, 1: 9, 2: 2}


def test_a_block_that_overlaps_nothing_is_stored_as_it_is() -> None:
    one, two = block((1, 1, 0), 0, 1, 2, 3), block((1, 2, 0), 3, 4, 5)
    pieces, stored, duplicates = run([one], [two])
    assert [(piece.first, numbers(piece), piece.version) for piece in pieces] == [(0, [1, 2, 3], 1), (3, [4, 5], 1)]
    assert (stored, duplicates) == (2, 0)


def test_an_identical_overlap_is_a_duplicate_and_the_rest_is_new() -> None:
    pieces, stored, duplicates = run([block((1, 1, 0), 0, 1, 2, 3, 4)], [block((1, 2, 0), 2, 3, 4, 5, 6)])
    assert signal(pieces) == {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6}
    assert all(piece.version == 1 for piece in pieces)
    assert (stored, duplicates) == (2, 0)
    again, stored, duplicates = run([block((1, 1, 0), 0, 1, 2, 3, 4)], [block((1, 2, 0), 1, 2, 3)])
    assert (len(again), stored, duplicates) == (3, 1, 1)


def test_a_different_overlap_is_a_version_of_just_that_stretch() -> None:
    pieces, stored, _ = run([block((1, 1, 0), 0, 1, 2, 3, 4)], [block((1, 2, 0), 1, 7, 8)])
    assert [(p.first, numbers(p), p.version, p.current, p.items) for p in pieces] == [
        (0, [1], 1, True, 1), (1, [2, 3], 1, False, 0), (1, [7, 8], 2, True, 1), (3, [4], 1, True, 0),
    ]  # fmt: skip
    assert stored == 2


def test_the_same_integers_under_another_gain_are_a_correction() -> None:
    other = ECG._replace(gain=400.0)
    pieces, *_ = run([block((1, 1, 0), 0, 1, 2)], [block((1, 2, 0), 0, 1, 2, scale=other)])
    assert [(piece.scale.gain, piece.current) for piece in pieces] == [(200.0, False), (400.0, True)]


def test_other_samples_under_a_used_number_are_refused() -> None:
    placed: Placed = place(
        place([], [block((1, 1, 0), 0, 1, 2)]).pieces, [block((1, 1, 0), 1, 9), block((1, 1, 0), 0, 1)]
    )
    assert placed.outcomes == [Outcome.SEQUENCE_REUSED, Outcome.DUPLICATE]
