"""Delivery of a batch: patience with what is transient, and the search for a poison record."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.config import topics
from vitalgate.config.kafka_client import schema_headers
from vitalgate.stream.delivery import POISON_RUN, Delivery, HandlerBrokenError
from vitalgate.stream.errors import TransientError
from vitalgate.stream.worker import Record, Worker


class Picky(Worker):
    """Takes everything but the poison."""

    name = "picky"
    topics = (topics.RAW,)

    def __init__(self, poison: set[int], away: int = 0) -> None:
        self.bad = poison
        self.away = away
        self.taken: list[int] = []
        self.aside: list[int] = []
        self.recovered = 0

    async def handle(self, batch: list[Record]) -> None:
        if self.away:
            self.away -= 1
            raise TransientError("away")
        if any(record.offset in self.bad for record in batch):
            raise ValueError("poison")
        self.taken += [record.offset for record in batch]

    async def recover(self) -> None:
        self.recovered += 1

    async def poison(self, record: Record, error: Exception) -> None:
        self.aside.append(record.offset)


def batch(size: int, ours: bool = True) -> list[Record]:
    headers = schema_headers(topics.RAW) if ours else [("trace", b"\xff")]
    return [Record("device.raw", 0, n, b"k", b"v", headers, 0) for n in range(size)]


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


@given(st.integers(1, 200), st.sets(st.integers(0, 199), max_size=POISON_RUN - 1))
def test_only_the_poison_is_set_aside_and_the_order_is_kept(size: int, poison: set[int]) -> None:
    worker = Picky(poison)
    asyncio.run(Delivery(worker, no_sleep).deliver(batch(size)))
    assert worker.taken == [n for n in range(size) if n not in poison]
    assert worker.aside == sorted(n for n in poison if n < size)


def test_transient_faults_are_waited_out_and_readiness_says_so() -> None:
    worker = Picky(set(), away=50)
    seen: list[str | None] = []
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        seen.append(delivery.trouble)
        pauses.append(seconds)

    delivery = Delivery(worker, sleep)
    asyncio.run(delivery.deliver(batch(3)))
    assert worker.taken == [0, 1, 2]
    assert worker.aside == []
    assert seen == ["handling a batch: away"] * 50
    assert delivery.trouble is None
    assert pauses[0] < pauses[3] < pauses[-1] <= 5


def test_a_handler_that_refuses_everything_is_not_the_records_fault() -> None:
    worker = Picky(set(range(1000)))
    with pytest.raises(HandlerBrokenError, match="20 records in a row"):
        asyncio.run(Delivery(worker, no_sleep).deliver(batch(1000)))
    assert len(worker.aside) == POISON_RUN - 1


def test_strangers_records_are_set_aside_however_many_there_are() -> None:
    worker = Picky(set(range(1000)))
    asyncio.run(Delivery(worker, no_sleep).deliver(batch(100, ours=False)))
    assert worker.aside == list(range(100))


def test_memory_is_recovered_after_every_failure() -> None:
    worker = Picky({2})
    asyncio.run(Delivery(worker, no_sleep).deliver(batch(4)))
    assert worker.recovered > 0
    assert worker.taken == [0, 1, 3]
