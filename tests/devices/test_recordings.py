"""Blocks without sample numbers are placed so that a steady stream has no gaps and a repeat the same place."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vitalgate.devices.recordings import RENEW_S, Place, Placer

from .support import NOW, SECOND, Feed, ecg

RATE = Fraction(250)
MIDNIGHT = NOW // 86_400_000_000 * 86_400_000_000


def place(placer: Placer, start_s: float, count: int = 250, rate: Fraction = RATE) -> Place:
    return placer.place("ecg.II", NOW + round(start_s * SECOND), count, rate, RATE)


def test_the_first_block_counts_from_midnight() -> None:
    assert place(Placer({}, {}), 0) == ("auto-20261121", (NOW - MIDNIGHT) * 250 // SECOND)


@given(st.lists(st.floats(-0.12, 0.12), min_size=2, max_size=40), st.integers(50, 500))
def test_jitter_makes_no_gaps(jitter: list[float], count: int) -> None:
    placer = Placer({}, {})
    length = count / 250
    places = [place(placer, (n + 1) * length + j * min(1.0, length), count) for n, j in enumerate(jitter)]
    assert all(later.first_sample - earlier.first_sample == count for earlier, later in pairwise(places))


def test_a_drifting_clock_makes_no_gaps_and_goes_past_midnight() -> None:
    placer = Placer({}, {})
    start = 13.999 * 3600
    places = [place(placer, start + n * 1.0005) for n in range(200)]
    assert {p.recording for p in places} == {"auto-20261121"}
    assert places[-1].first_sample - places[0].first_sample == 199 * 250


def test_a_lost_block_leaves_its_gap_and_may_come_late() -> None:
    placer = Placer({}, {})
    chance = random.Random(1)
    starts = [n + chance.uniform(-0.03, 0.03) for n in range(20)]
    places = {n: place(placer, starts[n]) for n in range(20) if n not in (7, 8)}
    gap = places[9].first_sample - places[6].first_sample
    assert abs(gap - 750) <= 25
    late = place(placer, starts[7])
    assert late.first_sample == places[6].first_sample + 250


def test_a_repeat_gets_its_place_again() -> None:
    placer = Placer({}, {})
    places = [place(placer, n * 1.02) for n in range(12)]
    assert [place(placer, n * 1.02) for n in range(12)] == places


def test_after_a_long_silence_it_counts_from_midnight_again_and_never_back() -> None:
    placer = Placer({}, {})
    fast = [place(placer, n * 0.95) for n in range(100)]  # the sample clock runs ahead of the device's clock
    after = place(placer, 100 + RENEW_S + 5)
    assert after.recording == "auto-20261121"
    assert after.first_sample >= fast[-1].first_sample + 250
    assert place(placer, 86_400).recording == "auto-20261122"


def test_another_rate_is_another_recording() -> None:
    placer = Placer({}, {})
    assert place(placer, 0).recording == "auto-20261121"
    assert place(placer, 1, rate=Fraction(360)).recording == "auto-20261121-360"
    assert place(placer, 2, rate=Fraction(1000, 3)).recording == "auto-20261121-1000-3"


def test_what_was_given_is_not_changed() -> None:
    placer = Placer({}, {})
    place(placer, 0)
    anchors, recent = placer.anchors, placer.recent
    before = (dict(anchors), {name: list(blocks) for name, blocks in recent.items()})
    place(Placer(anchors, recent), 1)
    assert (anchors, recent) == before


def test_through_intake_the_memory_is_in_the_state() -> None:
    feed = Feed("ecg-patch")
    blocks = []
    for n in range(30):
        message = feed.send({"waveforms": [ecg([n] * 250, n + 0.01 * (n % 3))]}, "waveforms", seconds=n + 1.2)
        blocks.append(message.waveforms[0])
    first = blocks[0].first_sample
    assert [block.first_sample for block in blocks] == [first + 250 * n for n in range(30)]
    again = feed.again(feed.raws[20])
    assert again.waveforms[0].first_sample == blocks[20].first_sample
