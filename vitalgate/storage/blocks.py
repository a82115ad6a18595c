"""The index of the items inside a repacked waveform row: where each began, and what message it came from."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIELDS = (
    "first_sample", "count", "start_us", "epoch_no", "ord", "item", "seq", "received_us", "raw_partition", "raw_offset",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One item of a repacked row."""

    first_sample: int
    count: int
    start_us: int
    epoch_no: int
    ord: int
    item: int
    seq: int
    received_us: int
    raw_partition: int
    raw_offset: int

    @property
    def order(self) -> tuple[int, int, int]:
        """Its place in the device's order."""
        return self.epoch_no, self.ord, self.item


def encode(parts: Sequence[Part]) -> bytes:
    """Columns of second differences, bytes of equal weight together, deflated: some bytes an item of a regular one."""
    table = np.array([[getattr(part, name) for name in FIELDS] for part in parts], dtype=np.int64).T
    second = np.diff(np.diff(table, axis=1, prepend=0), axis=1, prepend=0)
    planes = (
        np.ascontiguousarray(second.astype("<i8")).view(np.uint8).reshape(len(FIELDS), len(parts), 8).transpose(0, 2, 1)
    )
    return len(parts).to_bytes(4, "little") + zlib.compress(np.ascontiguousarray(planes).tobytes(), 9)


def decode(data: bytes) -> list[Part]:
    """The items again, in the order of their samples."""
    count = int.from_bytes(data[:4], "little")
    planes = np.frombuffer(zlib.decompress(data[4:]), dtype=np.uint8).reshape(len(FIELDS), 8, count).transpose(0, 2, 1)
    second = np.ascontiguousarray(planes).view("<i8").reshape(len(FIELDS), count)
    table = np.cumsum(np.cumsum(second, axis=1), axis=1)
    return [Part(*(int(value) for value in column)) for column in table.T]
