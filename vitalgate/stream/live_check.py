"""Watch what one device sends and say what is right and wrong with it, as it arrives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple, cast

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.config.transport import kafka_options
from vitalgate.devices import catalogue
from vitalgate.devices.check import Finding, check
from vitalgate.devices.decode import decode
from vitalgate.devices.reasons import Refused
from vitalgate.storage.errors import StorageError
from vitalgate.storage.registry import Registry


class Sighting(NamedTuple):
    """One message of the device."""

    topic: str
    received_at: str
    findings: list[Finding]


def leaf_of(payload: bytes) -> str:
    """Which topic a payload was made for, told from its content."""
    try:
        document = decode(payload)
    except Refused:
        return "readings"
    if "waveforms" in document:
        return "waveforms"
    return "status" if "state" in document and "readings" not in document else "readings"


def watch(settings: Settings, device_id: str, kind: str | None, seconds: float | None) -> Iterator[Sighting]:
    """Every message of a device from now on, with what there is to say about it.

    Raises
    ------
    StorageError
        When the registry does not know the device and no kind is given, or Kafka cannot be read.
    """
    if kind is None:
        with Registry(settings.database) as registry:
            found = registry.devices(device_id)
        if not found:
            raise StorageError(f"no device {device_id!r}; add it, or name its --kind")
        kind = found[0].kind
    kinds = catalogue.load()
    name = topics.full(topics.RAW, settings.kafka)
    options = {**kafka_options(settings.kafka), "group.id": "vg-check", "enable.auto.commit": False}
    source = Consumer({**options, "log_level": 2})
    until = None if seconds is None else time.monotonic() + seconds
    try:
        partitions = source.list_topics(name, timeout=10.0).topics[name].partitions
        source.assign([TopicPartition(name, partition, OFFSET_END) for partition in partitions])
        while until is None or time.monotonic() < until:
            message = source.poll(0.2)
            if message is None or message.error() is not None or message.key() != device_id.encode():
                continue
            headers: dict[str, bytes] = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
            topic = headers.get("topic", b"").decode("utf-8", "replace")
            received_us = int(headers.get("received_at", b"0"))
            findings = check(
                message.value() or b"", topic.rpartition("/")[2], kinds.kind(kind),
                device=device_id, received_us=received_us, settings=settings.intake, kinds=kinds,
                max_payload_bytes=settings.mqtt.max_payload_bytes,
            )  # fmt: skip
            arrived = datetime.fromtimestamp(received_us / 1e6, UTC).isoformat(timespec="milliseconds")
            yield Sighting(topic, arrived.replace("+00:00", "Z"), findings)
    except KafkaException as error:
        raise StorageError(f"Kafka at {settings.kafka.bootstrap} cannot be read: {error}") from error
    finally:
        source.close()
