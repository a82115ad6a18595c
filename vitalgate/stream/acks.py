"""What is handed over and what is durable, by partition: offsets are acknowledged in order, without a hole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class HoleError(Exception):
    """Offsets of one assignment do not follow each other. No topic of ours has holes, unless records expire unread:
    then a new start begins after them, and otherwise it reads them again.
    """


@dataclass(slots=True)
class _Partition:
    first: int
    last: int
    durable: int


class Acker:
    """Between the worker, which says "durable up to here", and Kafka, which is told the offset to go on from.

    Only what was handed over can be acknowledged, and never less than before. `reset` forgets all: what is said later
    about records of an earlier assignment has no effect.

    Parameters
    ----------
    acknowledge
        Told (topic, partition, offset) when everything up to and with that offset is durable.
    """

    def __init__(self, acknowledge: Callable[[str, int, int], None]) -> None:
        self._acknowledge = acknowledge
        self._partitions: dict[tuple[str, int], _Partition] = {}

    def handed(self, topic: str, partition: int, offset: int) -> bool:
        """Note a record as it is handed over; False when it, or a later one, was handed over before.

        Raises
        ------
        HoleError
            When the offset does not follow the last one: acknowledging it would step over what is missing.
        """
        known = self._partitions.get((topic, partition))
        if known is None:
            self._partitions[topic, partition] = _Partition(offset, offset, offset - 1)
            return True
        if offset <= known.last:
            return False
        if offset > known.last + 1:
            raise HoleError(
                f"{topic}/{partition}: offset {offset} came after {known.last}; what lies between was never handed over"
            )
        known.last = offset
        return True

    def durable(self, topic: str, partition: int, through: int) -> None:
        """Everything handed over up to and with this offset is durable."""
        known = self._partitions.get((topic, partition))
        if known is None:
            return
        through = min(through, known.last)
        if through > known.durable:
            known.durable = through
            self._acknowledge(topic, partition, through)

    def durable_all(self) -> None:
        """Everything handed over so far is durable."""
        for (topic, partition), known in self._partitions.items():
            self.durable(topic, partition, known.last)

    def next(self, topic: str, partition: int) -> int | None:
        """Lowest offset that is not durable; None when nothing of the partition was handed over."""
        known = self._partitions.get((topic, partition))
        return None if known is None else known.durable + 1

    def reset(self) -> None:
        """Forget everything, acknowledge nothing."""
        self._partitions.clear()
