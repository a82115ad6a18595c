"""Samples of one metric in columns, in event order: compact, since thousands of patients each keep hundreds of them."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right

import msgspec

NAN = math.nan


class Ref(msgspec.Struct, array_like=True, frozen=True):
    """Which measurement a sample is, and which message it came with."""

    time: int
    source: int
    index: int
    epoch: int
    order: int
    item: int
    content: int = 0
    """Content hash of the message, as a number: with the rest it gives the message's id."""


class Now:
    """The newest tick, shared by all that must know it."""

    __slots__ = ("us",)

    def __init__(self, us: int) -> None:
        self.us = us


class Sources:
    """(device, site) pairs of a patient by a small number; ordered by name, not by number, where order matters."""

    def __init__(self, names: list[tuple[str, str]] | None = None, now: Now | None = None) -> None:
        self.names: list[tuple[str, str]] = [] if names is None else names
        self.now = now or Now(-(1 << 62))
        self._numbers = {name: k for k, name in enumerate(self.names)}

    def number(self, device: str, site: str) -> int:
        """The pair's number, a new one when it is new."""
        pair = (device, site)
        found = self._numbers.get(pair)
        if found is None:
            found = self._numbers[pair] = len(self.names)
            self.names.append(pair)
        return found


class Columns:
    """One row a sample: event time (us), value (NaN: none usable), source, index, and the rank of its version.

    Rows are ordered by time, then by the source's name, then by index. With ``spans`` a row also has an end, and is
    identified by (source, index) alone, without its time.
    """

    def __init__(self, sources: Sources, spans: bool) -> None:
        self.sources = sources
        self.spans = spans
        self.times = array("q")
        self.values = array("d")
        self.ends = array("q")
        self.source = array("H")
        self.index = array("q")
        self.epoch = array("i")
        self.order = array("q")
        self.item = array("i")
        self.content = array("q")

    def __len__(self) -> int:
        return len(self.times)

    def find(self, time: int, source: int, index: int) -> int | None:
        """Row of a measurement, or None."""
        if self.spans:
            at = -1
            for _ in range(self.index.count(index)):
                at = self.index.index(index, at + 1)
                if self.source[at] == source:
                    return at
            return None
        for at in range(bisect_left(self.times, time), bisect_right(self.times, time)):
            if self.source[at] == source and self.index[at] == index:
                return at
        return None

    def find_message(self, device: str, epoch: int, order: int, item: int) -> int | None:
        """Row that a message brought, or None."""
        at = -1
        for _ in range(self.order.count(order)):
            at = self.order.index(order, at + 1)
            if (self.epoch[at], self.item[at]) == (epoch, item) and self.sources.names[self.source[at]][0] == device:
                return at
        return None

    def place(self, time: int, source: int, index: int) -> int:
        """Where a new row belongs."""
        at, stop = bisect_left(self.times, time), bisect_right(self.times, time)
        names = self.sources.names
        key = (names[source], index)
        while at < stop and (names[self.source[at]], self.index[at]) < key:
            at += 1
        return at

    def insert(self, at: int, ref: Ref, value: float, end: int) -> None:
        """Put a row in."""
        self.times.insert(at, ref.time)
        self.values.insert(at, value)
        if self.spans:
            self.ends.insert(at, end)
        self.source.insert(at, ref.source)
        self.index.insert(at, ref.index)
        self.epoch.insert(at, ref.epoch)
        self.order.insert(at, ref.order)
        self.item.insert(at, ref.item)
        self.content.insert(at, ref.content)

    def delete(self, first: int, stop: int) -> None:
        """Take rows [first, stop) out."""
        for column in (
            self.times, self.values, self.source, self.index, self.epoch, self.order, self.item, self.content,
        ):  # fmt: skip
            del column[first:stop]
        if self.spans:
            del self.ends[first:stop]

    def rank(self, at: int) -> tuple[int, int, int]:
        """(epoch, order, item) of the version that stands in a row."""
        return self.epoch[at], self.order[at], self.item[at]

    def set_rank(self, at: int, rank: tuple[int, int, int], content: int) -> None:
        """Another version stands in a row."""
        self.epoch[at], self.order[at], self.item[at] = rank
        self.content[at] = content

    def ref(self, at: int) -> Ref:
        """Identity and rank of a row."""
        return Ref(
            self.times[at], self.source[at], self.index[at], self.epoch[at], self.order[at], self.item[at],
            self.content[at],
        )  # fmt: skip

    def valid_before(self, at: int, otherwise: int) -> int:
        """Time of the last row before ``at`` that has a value."""
        for j in range(at - 1, -1, -1):
            if self.values[j] == self.values[j]:
                return self.times[j]
        return otherwise

    def lowest(self, sign: int, begin_us: int, at: int) -> float:
        """Lowest of ``sign * value`` in the rows from time ``begin_us`` up to row ``at``, which has a value."""
        begin = bisect_left(self.times, begin_us)
        return min(sign * v for v in self.values[begin : at + 1] if v == v)

    def median(self, begin_us: int, at: int) -> float:
        """Median of the values in the rows from time ``begin_us`` up to row ``at``, which has one."""
        values = self.values
        begin = bisect_left(self.times, begin_us, 0, at + 1)
        if begin == at:
            return values[at]
        window = sorted(v for v in values[begin : at + 1] if v == v)
        half = len(window) // 2
        return window[half] if len(window) % 2 else (window[half - 1] + window[half]) / 2


def same(a: float, b: float) -> bool:
    """Equal, with NaN equal to NaN."""
    return a == b or (a != a and b != b)
