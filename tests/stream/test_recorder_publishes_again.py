"""Public records that Kafka refused are published when the batch comes again, though the database has it by then.

Found by `vitalgate torture --seed 14 --faults server-clock-steps --first 51 --rounds 1`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from vitalgate.config import topics
from vitalgate.devices.records import ValidatedBatch, encode
from vitalgate.stream.errors import NotDeliveredError
from vitalgate.stream.recorder import Recorder
from vitalgate.stream.worker import Record


class _Store:
    """As the real one: what it has already has no public records; ranges stay unpublished until they are marked."""

    def __init__(self) -> None:
        self.stored = False
        self.marked: list[int] = []

    def applied(self, readings: list[Any]) -> Any:
        return SimpleNamespace(
            partition=0, first=0, last=0, messages=0, public_readings=readings, public_waveforms=[], dead=[],
            items=1, stored=1, duplicate=0, dead_lettered=0, skipped=0, versions=0, reasons={}, holes=[], by="test",
        )  # fmt: skip

    def apply(self, _batch: ValidatedBatch) -> Any:
        first, self.stored = not self.stored, True
        return self.applied([SimpleNamespace(key=b"d", value=b"{}", trace="", message_id="01")] if first else [])

    def unpublished(self, _partition: int) -> Iterator[Any]:
        if self.stored and not self.marked:
            yield self.applied([SimpleNamespace(key=b"d", value=b"{}", trace="", message_id="01")])

    def mark_published(self, _partition: int, last: int) -> None:
        self.marked.append(last)

    def flush_published(self) -> None:
        return


def test_what_kafka_refused_is_published_when_the_batch_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitalgate.stream.recorder._count", lambda _applied: None)
    sent: list[str] = []
    told: list[Any] = []
    refusals = [NotDeliveredError("Broker: Invalid timestamp")]

    async def produce(topic: topics.Topic, **_: Any) -> None:
        sent.append(topic.name)

    async def send_audit(_context: Any, event: Any) -> None:
        told.append(event)

    monkeypatch.setattr("vitalgate.stream.recorder.send_audit", send_audit)

    async def flush_batch() -> None:
        if refusals:
            sent.clear()
            raise refusals.pop()

    async def call(what: Any, *arguments: Any) -> Any:
        return what(*arguments)

    recorder = Recorder.__new__(Recorder)
    recorder.context = SimpleNamespace(producer=SimpleNamespace(produce=produce, flush_batch=flush_batch))  # type: ignore[assignment]
    recorder.database, recorder.store = SimpleNamespace(call=call), _Store()  # type: ignore[assignment]
    recorder.unsure = set()
    batch = [Record("device.validated", 0, 0, None, encode(ValidatedBatch(0, 0, 0, [], "test")), [], 0)]
    with pytest.raises(NotDeliveredError):
        asyncio.run(recorder.handle(batch))
    assert sent == []
    asyncio.run(recorder.handle(batch))
    assert sent == ["device.readings"]
    # The batch's audit event may have been lost with them.
    assert [(event.action, event.detail) for event in told] == [
        ("batch.recorded", {"items": 1, "stored": 1, "by": "test", "again": True})
    ]
    assert recorder.unsure == set()
    asyncio.run(recorder.handle(batch))
    assert sent == ["device.readings"]
