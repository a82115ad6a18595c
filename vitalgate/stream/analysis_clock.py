"""Event times of samples, by block: a time once told stays when the packets that told it are forgotten. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vitalgate.stream.analysis_grid import block_of, start_of
from vitalgate.stream.analysis_line import Line, Packet


class BlockClock:
    """Tells the time of a sample from that of its block's first sample, where it is known, else from the packets.

    Parameters
    ----------
    anchors
        Event time of the first sample of each block, microseconds; ``anchor`` adds to it.
    further
        Packets from the database.
    """

    def __init__(self, line: Line, anchors: dict[int, int], further: Sequence[Packet] = ()) -> None:
        self._line, self._anchors, self._further = line, anchors, further

    def knows(self) -> bool:
        """Whether there is any packet to tell a time."""
        return bool(self._line.packets or self._further)

    def anchor(self, block: int, *, anew: bool) -> None:
        """Note the time of a block's first sample, over what was noted when ``anew``."""
        if self.knows() and (anew or block not in self._anchors):
            self._anchors[block] = self._line.time_us(start_of(block, self._line.key.fs), self._further)

    def packet_time(self, sample: int) -> int:
        """Event time by the packet that holds the sample; 0 when there is none at all."""
        return self._line.time_us(sample, self._further) if self.knows() else 0

    def __call__(self, sample: int) -> int:
        """Event time of a sample, microseconds."""
        key = self._line.key
        block = block_of(sample, key.fs)
        if block not in self._anchors:
            return self.packet_time(sample)
        return self._anchors[block] + (sample - start_of(block, key.fs)) * key.rate_den * 1_000_000 // key.rate_num

    def end(self, stop: int) -> int:
        """Event time of the end of what ends before sample ``stop``: told by the block of its last sample."""
        key = self._line.key
        block = block_of(stop - 1, key.fs)
        if block not in self._anchors:
            return self.packet_time(stop)
        return self._anchors[block] + (stop - start_of(block, key.fs)) * key.rate_den * 1_000_000 // key.rate_num
