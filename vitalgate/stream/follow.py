"""Follow a topic for people: a kafka-python consumer without a group, values unpacked to plain documents."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import msgspec
import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import Topic, full
from vitalgate.config.transport import kafka_python_options
from vitalgate.devices import records

_PACKED = {
    topics.SEQUENCES.name: records.DeviceSequences,
    topics.VALIDATED.name: records.ValidatedBatch,
    topics.INPUTS.name: records.PatientInput,
}
#: Long lists and texts are cut to this in the readable form.
_SHOWN_ITEMS = 6
_SHOWN_TEXT = 120


class NoTopicError(Exception):
    """Kafka is not there or does not have the topic; the text says what to do."""


@dataclass(frozen=True)
class Followed:
    """One record."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    headers: dict[str, str]
    value: Any
    """A plain document; None for a tombstone; {"bytes": …} where it is no document."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": _moment(self.timestamp_ms),
            "key": self.key,
            "headers": self.headers,
            "value": self.value,
        }

    def is_device(self, device: str) -> bool:
        """Whether it is about this device."""
        return self._about(device, "device", "device_id")

    def is_patient(self, patient: str) -> bool:
        """Whether it is about this patient."""
        return self._about(patient, "patient", "patient")

    def _about(self, name: str, kind: str, field: str) -> bool:
        if self.key == name and _keyed_by(self.topic) == kind:
            return True
        value = self.value if isinstance(self.value, dict) else {}
        inner = value.get("message") or {}
        batch = value.get("messages") or []
        return name in (value.get(field), value.get(kind), inner.get(kind)) or any(m.get(kind) == name for m in batch)


class Follow:
    """`with Follow(…) as records: for record in records: …`

    Parameters
    ----------
    from_beginning
        False begins with what comes after now.
    quiet_s
        End after this long without a record; None: never.
    """

    def __init__(
        self, kafka: KafkaSettings, topic: Topic, *, from_beginning: bool = False, quiet_s: float | None = None
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._from_beginning = from_beginning
        self._quiet_s = quiet_s
        self._consumer: Any = None

    def __enter__(self) -> Self:
        name = full(self._topic, self._kafka)
        try:
            self._consumer = KafkaConsumer(
                **kafka_python_options(self._kafka),
                client_id="vitalgate-tail",
                enable_auto_commit=False,
                fetch_max_bytes=64 * 1024 * 1024,
                max_partition_fetch_bytes=4 * 1024 * 1024,
            )
            partitions = self._consumer.partitions_for_topic(name)
        except KafkaError as error:
            self._close()
            raise NoTopicError(
                f"Kafka at {self._kafka.bootstrap} (kafka.bootstrap) does not answer: {error}"
            ) from error
        if not partitions:
            self._close()
            raise NoTopicError(f"topic {name} is not there; `vitalgate topics create` makes it")
        assigned = [TopicPartition(name, number) for number in sorted(partitions)]
        self._consumer.assign(assigned)
        if self._from_beginning:
            self._consumer.seek_to_beginning(*assigned)
        else:
            self._consumer.seek_to_end(*assigned)
            for partition in assigned:
                self._consumer.position(partition)  # settles it now, not at the first poll
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def __iter__(self) -> Iterator[Followed]:
        moved = time.monotonic()
        while True:
            for found in self._consumer.poll(timeout_ms=200).values():
                for record in found:
                    moved = time.monotonic()
                    yield self._followed(record)
            if self._quiet_s is not None and time.monotonic() - moved > self._quiet_s:
                return

    def _followed(self, record: Any) -> Followed:
        return Followed(
            self._topic.name,
            record.partition,
            record.offset,
            record.timestamp,
            None if record.key is None else record.key.decode("utf-8", "replace"),
            {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers or ()},
            plain(self._topic.name, record.value),
        )


def plain(topic: str, value: bytes | None) -> Any:
    """A record's value as a document of JSON's types."""
    if value is None:
        return None
    try:
        if topic in _PACKED:
            return _named(msgspec.msgpack.decode(value, type=_PACKED[topic]))
        return orjson.loads(value)
    except (msgspec.DecodeError, orjson.JSONDecodeError):
        try:
            return {"text": value.decode()}
        except UnicodeDecodeError:
            return {"bytes": value.hex()}


def _named(value: Any) -> Any:
    """Array-like structs with their fields' names, bytes as hexadecimal."""
    if isinstance(value, msgspec.Struct):
        return {name: _named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: _named(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(one) for one in value]
    return value.hex() if isinstance(value, bytes) else value


def line(record: Followed) -> str:
    """One readable line: time, place, key, and the document with long lists and texts cut."""
    place = f"{record.partition}@{record.offset}"
    body = "(deleted)" if record.value is None else orjson.dumps(_short(record.value)).decode()
    return f"{_moment(record.timestamp_ms)}  {place:<10} {record.key or '-':<16} {body}"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items() if one not in (None, "", [], {})}
    if isinstance(value, list):
        rest = [f"… {len(value) - _SHOWN_ITEMS} more"] if len(value) > _SHOWN_ITEMS else []
        return [*(_short(one) for one in value[:_SHOWN_ITEMS]), *rest]
    if isinstance(value, str) and len(value) > _SHOWN_TEXT:
        return value[:_SHOWN_TEXT] + "…"
    return value


def _keyed_by(topic: str) -> str:
    return next(one.key for one in topics.ALL if one.name == topic)


def _moment(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
