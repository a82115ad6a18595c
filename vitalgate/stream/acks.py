"""Acknowledge strictly in offset order: Faust's commit steps over one missing offset at the head of a partition."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class Acker(Generic[M]):
    """Records that were handed to the worker and are not acknowledged yet, by topic and partition.

    A worker says "durable up to here"; everything held up to that offset is acknowledged, oldest first, so that the
    acknowledged offsets of a partition are at every moment a run without a hole. `reset` forgets all: what is said
    about records of an earlier assignment then has no effect.
    """

    def __init__(self, acknowledge: Callable[[M], None]) -> None:
        self._acknowledge = acknowledge
        self._held: defaultdict[tuple[str, int], deque[tuple[int, M]]] = defaultdict(deque)
        self._next: dict[tuple[str, int], int] = {}
        self._count = 0

    def hold(self, topic: str, partition: int, offset: int, message: M) -> None:
        """Note a record as it is handed over.

        Raises
        ------
        ValueError
            When its offset is not above the ones before it in the partition.
        """
        where = (topic, partition)
        if offset < self._next.get(where, 0):
            raise ValueError(f"{topic}/{partition}: offset {offset} after {self._next[where] - 1}; offsets must rise")
        self._held[where].append((offset, message))
        self._next[where] = offset + 1
        self._count += 1

    def durable(self, topic: str, partition: int, through: int) -> int:
        """Acknowledge what is held up to and with this offset; says how many that were."""
        held = self._held.get((topic, partition))
        done = 0
        while held and held[0][0] <= through:
            self._acknowledge(held[0][1])
            held.popleft()
            done += 1
        self._count -= done
        return done

    def durable_all(self) -> int:
        """Acknowledge everything handed over so far."""
        return sum(self.durable(topic, partition, self._next[topic, partition]) for topic, partition in self._held)

    def first_open(self, topic: str, partition: int) -> int | None:
        """Lowest offset that is not acknowledged; None when nothing of the partition was handed over."""
        held = self._held.get((topic, partition))
        return held[0][0] if held else self._next.get((topic, partition))

    def reset(self) -> None:
        """Forget everything, acknowledge nothing."""
        self._held.clear()
        self._next.clear()
        self._count = 0

    def __len__(self) -> int:
        return self._count
