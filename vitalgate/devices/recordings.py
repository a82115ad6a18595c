"""Recording and first sample of blocks that bear neither, told from their start times.

The first block of a channel begins the recording `auto-YYYYMMDD` (of its UTC day; with the rate appended when it is
not the channel's usual one) at the sample that its start is after midnight. A block that begins where a remembered
one ended, within the tolerance (a quarter of the
block, at most TOLERANCE_US), goes on without a gap whatever its clock says; another is placed by its distance
from the nearest remembered block, so that a drifting clock does not make it overlap. After RENEW_S of silence, or
when the rate changes, the recording begins anew from midnight. A block that comes again is recognised by its start
and length and gets the place it had.

This is second best: after a loss of more than the remembered blocks, or with jitter above the tolerance, blocks may
overlap or leave small gaps. A device that numbers its samples is always right.
"""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from typing import Final, NamedTuple

REMEMBERED: Final = 16
RENEW_S: Final = 600
TOLERANCE_US: Final = 250_000
_DAY_US: Final = 86_400_000_000
_EPOCH: Final = dt.date(1970, 1, 1)

Anchor = tuple[str, int, int, int, int]
"""(recording, next sample, its time in us, rate numerator, rate denominator)."""
Block = tuple[int, int, int]
"""(start in us, first sample, count)."""


class Place(NamedTuple):
    """Where a block belongs."""

    recording: str
    first_sample: int


class Placer:
    """Places the blocks of one message; holds what is remembered of each channel.

    `anchors` and `recent` are those of DeviceSequences; they are copied before the first change, and `changed` says
    whether there was one.
    """

    def __init__(self, anchors: dict[str, Anchor], recent: dict[str, list[Block]]) -> None:
        self.anchors = anchors
        self.recent = recent
        self.changed = False

    def place(self, channel: str, start_us: int, count: int, rate: Fraction, usual: Fraction) -> Place:
        """The recording and first sample of a block of `count` samples that starts at `start_us`."""
        anchor = self.anchors.get(channel)
        blocks = self.recent.get(channel, [])
        if anchor is None or (anchor[3], anchor[4]) != (rate.numerator, rate.denominator):
            place = _from_midnight(start_us, rate, usual)
            blocks = []
        else:
            for start, first, length in blocks:
                if start == start_us and length == count:
                    return Place(anchor[0], first)
            place = _after(anchor, blocks, start_us, count, rate) or _renewed(anchor, start_us, rate, usual)
            if place.recording != anchor[0]:
                blocks = []
        self._remember(channel, place, start_us, count, rate, anchor, blocks)
        return place

    def _remember(
        self,
        channel: str,
        place: Place,
        start_us: int,
        count: int,
        rate: Fraction,
        anchor: Anchor | None,
        blocks: list[Block],
    ) -> None:
        if not self.changed:
            self.anchors, self.recent, self.changed = dict(self.anchors), dict(self.recent), True
        following = place.first_sample + count
        if anchor is None or anchor[0] != place.recording or following > anchor[1]:
            end_us = start_us + _duration_us(count, rate)
            self.anchors[channel] = (place.recording, following, end_us, rate.numerator, rate.denominator)
        self.recent[channel] = [*blocks[-(REMEMBERED - 1) :], (start_us, place.first_sample, count)]


def _duration_us(count: int, rate: Fraction) -> int:
    top, bottom = count * 1_000_000 * rate.denominator, rate.numerator
    return (2 * top + bottom) // (2 * bottom)  # rounded; exact integers are ten times as fast as fractions


def _samples(us: int, rate: Fraction) -> int:
    top, bottom = us * rate.numerator, 1_000_000 * rate.denominator
    return (2 * top + bottom) // (2 * bottom)


def _from_midnight(start_us: int, rate: Fraction, usual: Fraction) -> Place:
    day = start_us // _DAY_US
    name = f"auto-{_EPOCH + dt.timedelta(days=day):%Y%m%d}"
    if rate != usual:
        name += f"-{rate.numerator}" if rate.denominator == 1 else f"-{rate.numerator}-{rate.denominator}"
    return Place(name, _samples(start_us - day * _DAY_US, rate))


def _after(anchor: Anchor, blocks: list[Block], start_us: int, count: int, rate: Fraction) -> Place | None:
    """The place by the nearest remembered block; None when all are further than RENEW_S away."""
    recording, following, following_us, _, _ = anchor
    tolerance = max(min(TOLERANCE_US, _duration_us(count, rate) // 4), 1_500_000 * rate.denominator // rate.numerator)
    nearest, distance = (following, following_us), abs(start_us - following_us)
    if distance <= tolerance:  # nearly always
        return Place(recording, following)
    for start, first, length in blocks:
        end = start + _duration_us(length, rate)
        for sample, at in ((first + length, end), (first, start)):
            if abs(start_us - at) < distance:
                nearest, distance = (sample, at), abs(start_us - at)
    if distance > RENEW_S * 1_000_000:
        return None
    sample, at = nearest
    if distance <= tolerance and (sample == following or any(sample == first + size for _, first, size in blocks)):
        return Place(recording, sample)
    shifted = sample + _samples(start_us - at, rate)
    return Place(recording, max(shifted, 0))


def _renewed(anchor: Anchor, start_us: int, rate: Fraction, usual: Fraction) -> Place:
    place = _from_midnight(start_us, rate, usual)
    if place.recording == anchor[0] and start_us >= anchor[2]:
        return Place(place.recording, max(place.first_sample, anchor[1]))
    return place
