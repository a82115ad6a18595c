"""Stored waveform blocks of a stretch of samples, and what a block that overlaps them is.

Later in the device's order lies on top. A block that says what stored blocks say already is a duplicate; any other is
kept whole, as a further version of its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitalgate.devices.records import Message, Waveform
from vitalgate.storage import blocks
from vitalgate.storage.connect import Connection
from vitalgate.storage.known import sightings_of
from vitalgate.storage.packing import Samples, array, unpack
from vitalgate.storage.publics import micros, moment
from vitalgate.storage.rows import Sighting, order

Scale = tuple[int, int, float, float, str]
"""rate_num, rate_den, gain, offset, unit: samples compare only under the same one."""


@dataclass(slots=True)
class Block:
    """Samples [first, stop) of one recording."""

    first: int
    samples: Samples
    own: Sighting
    sightings: list[Sighting]
    scale: Scale
    version: int = 1
    start_us: int = 0

    @property
    def stop(self) -> int:
        """One past the last sample."""
        return self.first + len(self.samples)

    @property
    def last(self) -> Sighting:
        """The last item that said so: what lies on top is told by it."""
        return self.sightings[-1]


@dataclass(slots=True)
class Verdict:
    """What a block is in view of those stored."""

    duplicate: bool
    version: int = 1
    seen_again: list[Block] = field(default_factory=list)
    """Stored blocks that the duplicate confirms as a whole."""
    raised: list[tuple[Block, int]] = field(default_factory=list)
    """Stored blocks that come after this one in the device's order, with their new version."""


def block_of(message: Message, w: Waveform) -> Block:
    """A block on its way in."""
    own = order(message, w.item)
    scale = (w.rate_num, w.rate_den, w.gain, w.offset, w.unit)
    return Block(w.first_sample, array(w.samples), own, [own], scale, start_us=w.start_us)


def judge(stored: Sequence[Block], new: Block) -> Verdict:
    """What `new` is in view of the stored blocks that overlap it; does not depend on their order."""
    over = sorted(
        (block for block in stored if block.first < new.stop and new.first < block.stop), key=lambda b: b.last
    )
    for block in over:
        if block.first == new.first and _same(block, new):
            return Verdict(True, block.version, seen_again=[block] if new.own not in block.sightings else [])
    covered = np.zeros(len(new.samples), dtype=bool)
    says = np.zeros(len(new.samples), dtype=np.int32)
    for block in over:
        lo, hi = max(block.first, new.first), min(block.stop, new.stop)
        covered[lo - new.first : hi - new.first] = True
        says[lo - new.first : hi - new.first] = block.samples[lo - block.first : hi - block.first]
    if over and covered.all() and all(b.scale == new.scale for b in over) and np.array_equal(says, new.samples):
        return Verdict(True, over[-1].version, [b for b in over if new.first <= b.first and b.stop <= new.stop])
    below = [block for block in over if block.last < new.own]
    version = 1 + max((block.version for block in below), default=0)
    raised = [(block, version + 1) for block in over if block.last > new.own and block.version <= version]
    return Verdict(False, version, raised=raised)


def _same(a: Block, b: Block) -> bool:
    return a.scale == b.scale and np.array_equal(a.samples, b.samples)


def overlapping(
    connection: Connection, line: tuple[str, str, str], w: Waveform, longest: int, first_us: int, last_us: int
) -> list[Block]:
    """Stored blocks that overlap a block, those of repacked rows one by one.

    Parameters
    ----------
    longest
        Samples in the longest stored row of the recording.
    first_us, last_us
        Start times of its first and last row, which bound the search to a few partitions.
    """
    found: list[Block] = []
    for row in connection.execute(
        """
        SELECT first_sample, count, epoch_no, ord, item, sightings, rate_num, rate_den, gain, baseline, unit, codec,
               samples, version, items, time
        FROM waveforms
        WHERE device_id = %s AND channel = %s AND recording = %s AND first_sample < %s AND first_sample > %s
          AND first_sample + count > %s AND time BETWEEN %s AND %s
        """,
        (
            *line, w.first_sample + w.count, w.first_sample - max(longest, 1), w.first_sample, moment(first_us),
            moment(last_us),
        ),
        binary=True,
    ):  # fmt: skip
        (first, count, epoch_no, ord_, item, seen, num, den, gain, baseline, unit, codec, packed, version, items,
         time) = row  # fmt: skip
        samples = unpack(codec, packed, count)
        scale = (num, den, gain, baseline, unit)
        if items is None:
            own = (epoch_no, ord_, item)
            found.append(Block(first, samples, own, sightings_of(seen, own), scale, version, micros(time)))
            continue
        for part in blocks.decode(items):
            lo = part.first_sample - first
            found.append(
                Block(
                    part.first_sample, samples[lo : lo + part.count], part.order, [part.order], scale, version,
                    part.start_us,
                )
            )  # fmt: skip
    return found


def sent_as(connection: Connection, device: str, channel: str, sighting: Sighting) -> Samples | None:
    """The samples that were stored of one item, by its place in the device's order."""
    row = connection.execute(
        """
        SELECT first_sample, count, ord, item, codec, samples, items FROM waveforms
        WHERE device_id = %s AND channel = %s AND epoch_no = %s AND ord <= %s
        ORDER BY ord DESC, item DESC LIMIT 1
        """,
        (device, channel, sighting[0], sighting[1]),
        binary=True,
    ).fetchone()
    if row is None:
        return None
    first, count, ord_, item, codec, packed, items = row
    if items is None:
        return unpack(codec, packed, count) if (ord_, item) == sighting[1:] else None
    for part in blocks.decode(items):
        if part.order == sighting:
            lo = part.first_sample - first
            return unpack(codec, packed, count)[lo : lo + part.count]
    return None


def see(connection: Connection, line: tuple[str, str, str], block: Block, sightings: list[int]) -> None:
    """Note that a stored block was sent again by a further message."""
    connection.execute(
        "UPDATE waveforms SET sightings = %s WHERE device_id = %s AND channel = %s AND recording = %s"
        " AND first_sample = %s AND epoch_no = %s AND ord = %s AND item = %s AND time = %s AND n_items = 1",
        (sightings, *line, block.first, *block.own, moment(block.start_us)),
    )


def raise_version(connection: Connection, line: tuple[str, str, str], block: Block, version: int) -> None:
    """Renumber a stored block that an earlier-ordered one came under."""
    connection.execute(
        "UPDATE waveforms SET version = %s WHERE device_id = %s AND channel = %s AND recording = %s"
        " AND first_sample = %s AND epoch_no = %s AND ord = %s AND item = %s AND time = %s AND n_items = 1",
        (version, *line, block.first, *block.own, moment(block.start_us)),
    )
