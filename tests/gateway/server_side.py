"""What stands behind the gateway in these tests: a small intake that keeps numbers, and records written by hand."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import cbor2
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.gateway.parts import Edge
from vitalgate.config import topics
from vitalgate.devices import records, sequences


class Kafka:
    """Writes records as the workers would."""

    def __init__(self, edge: Edge) -> None:
        self._kafka = edge.settings.kafka
        self._producer = Producer(
            {
                "bootstrap.servers": self._kafka.bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "log_level": 2,
            }
        )

    def write(self, topic: topics.Topic, key: str, value: bytes | dict[str, Any] | None) -> None:
        data = json.dumps(value) if isinstance(value, dict) else value
        self._producer.produce(topics.full(topic, self._kafka), data, key)
        assert self._producer.flush(15) == 0

    def kept(self, state: records.DeviceSequences) -> None:
        self.write(topics.SEQUENCES, state.device, records.encode(state))


def state(device: str, epoch: str, through: int, **fields: Any) -> records.DeviceSequences:
    """A device's memory with one epoch, kept through a number."""
    now = int(time.time() * 1e6)
    kept = records.Kept(epoch, 1, through, fields.pop("beyond", []))
    return records.DeviceSequences(device, 1, [kept], touched=[epoch], updated_us=now, **fields)


class SmallIntake:
    """Reads device.raw from now on and tells on device.sequences what it has kept, and which numbers it refuses."""

    def __init__(self, edge: Edge, refuse: frozenset[int] = frozenset()) -> None:
        self.edge = edge
        self.refuse = refuse
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self._kafka = Kafka(edge)
        self._states: dict[str, records.DeviceSequences] = {}
        self._stop = threading.Event()
        self._source = self._from_now_on()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def of(self, device: str) -> list[dict[str, Any]]:
        """What this device sent."""
        return [document for topic, document in self.documents if f"/{device}/" in topic]

    def numbers(self, device: str) -> dict[tuple[str, int], int]:
        """How often each (epoch, seq) of a device came."""
        counts: dict[tuple[str, int], int] = {}
        for document in self.of(device):
            if "seq" in document:
                key = document["epoch"], document["seq"]
                counts[key] = counts.get(key, 0) + 1
        return counts

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _from_now_on(self) -> Consumer:
        name = topics.full(topics.RAW, self.edge.settings.kafka)
        source = Consumer(
            {"bootstrap.servers": self.edge.settings.kafka.bootstrap, "group.id": "small", "log_level": 2}
        )
        places = [TopicPartition(name, part) for part in source.list_topics(name, timeout=10).topics[name].partitions]
        for place in places:
            place.offset = source.get_watermark_offsets(place, timeout=10, cached=False)[1]
        source.assign(places)
        return source

    def _run(self) -> None:
        source = self._source
        while not self._stop.is_set():
            message = source.poll(0.1)
            if message is None or message.error() is not None:
                continue
            payload = message.value()
            document = json.loads(payload) if payload[:1] == b"{" else cbor2.loads(payload)
            topic = dict(message.headers())["topic"].decode()
            self.documents.append((topic, document))
            if "epoch" in document:
                self._keep(message.key().decode(), document)
        source.close()

    def _keep(self, device: str, document: dict[str, Any]) -> None:
        now, epoch = int(time.time() * 1e6), document["epoch"]
        known = self._states.get(device) or records.DeviceSequences(device, 0)
        kept = sequences.find(known, epoch) or records.Kept(epoch, len(known.epochs) + 1, sequences.NOTHING)
        rejected = list(known.rejected)
        if "seq" in document:
            kept = sequences.add(kept, document["seq"], now)
            if document["seq"] in self.refuse:
                rejected.append((epoch, document["seq"], "out_of_range", "too high"))
        if "lost" in document:
            kept = sequences.declare_lost(kept, document["lost"], now)
        new = sequences.replace(
            known, epochs=sequences.with_epoch(known.epochs, kept), touched=[epoch], updated_us=now,
            rejected=rejected, rejected_us=[now] * len(rejected),
        )  # fmt: skip
        self._states[device] = new
        self._kafka.kept(new)
