"""The grid of blocks of a recording: block b is samples round(b * 10 s * fs) up to those of block b + 1. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from vitalgate.signal import beats as detector


def start_of(block: int, fs: float) -> int:
    """First absolute sample of a block."""
    return round(block * detector.BLOCK_S * fs)


def block_of(sample: int, fs: float) -> int:
    """The block that holds a sample."""
    block = int(sample // (detector.BLOCK_S * fs))
    while start_of(block + 1, fs) <= sample:
        block += 1
    while start_of(block, fs) > sample:
        block -= 1
    return block


def blocks_of(first: int, stop: int, fs: float) -> range:
    """Blocks that hold samples [first, stop)."""
    return range(block_of(first, fs), block_of(max(first, stop - 1), fs) + 1)


def blocks_in(seconds: float) -> int:
    """How many blocks reach so far."""
    return math.ceil(seconds / detector.BLOCK_S)


def runs(blocks: Iterable[int]) -> list[range]:
    """Increasing block numbers as runs of consecutive ones."""
    found: list[range] = []
    for block in blocks:
        if found and found[-1].stop == block:
            found[-1] = range(found[-1].start, block + 1)
        else:
            found.append(range(block, block + 1))
    return found
