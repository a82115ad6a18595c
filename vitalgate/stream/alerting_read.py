"""Reading alert topics for people: what stands, what happened, and the answer to a command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from vitalgate.alerts.board import pressing
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import Topic, full
from vitalgate.stream.lookback import consume, reader_configuration

_ANSWER_S = 10.0


class NoAnswerError(Exception):
    """Kafka does not answer, or nobody answers a command; the text says what to do."""


class Reader:
    """One topic from its beginning (or from a time, or its end), then what comes."""

    def __init__(
        self, kafka: KafkaSettings, topic: Topic, *, from_end: bool = False, since_ms: int | None = None
    ) -> None:
        self._consumer = Consumer(reader_configuration(kafka))
        self._name = full(topic, kafka)
        try:
            known = self._consumer.list_topics(self._name, timeout=_ANSWER_S).topics[self._name]
            if known.error is not None or not known.partitions:
                raise NoAnswerError(f"Kafka has no topic {self._name}; `vitalgate topics create` makes it")
            places = [TopicPartition(self._name, n) for n in known.partitions]
            ends = {
                place.partition: self._consumer.get_watermark_offsets(place, timeout=_ANSWER_S, cached=False)
                for place in places
            }
            begins = dict.fromkeys(ends, OFFSET_BEGINNING)
            if since_ms is not None:
                asked = [TopicPartition(self._name, n, since_ms) for n in ends]
                found = self._consumer.offsets_for_times(asked, timeout=_ANSWER_S)
                begins = {place.partition: place.offset if place.offset >= 0 else OFFSET_END for place in found}
        except KafkaException as error:
            self._consumer.close()
            raise NoAnswerError(f"Kafka at {kafka.bootstrap} does not answer ({error.args[0].str()})") from error
        self._left = {} if from_end else {n: high for n, (low, high) in ends.items() if high > low}
        self._consumer.assign(
            [TopicPartition(self._name, n, high if from_end else begins[n]) for n, (_, high) in ends.items()]
        )

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there at the beginning has been read."""
        return not self._left

    def poll(self, timeout_s: float) -> Iterator[tuple[bytes, bytes | None]]:
        """Key and value of what comes within this time."""
        for message in consume(self._consumer, 2000, timeout_s):
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF and partition is not None:
                    self._left.pop(partition, None)
                continue
            assert partition is not None and offset is not None
            if offset + 1 >= self._left.get(partition, 1 << 62):
                self._left.pop(partition, None)
            one: Any = message  # the stubs of confluent-kafka are vague about bytes
            yield one.key() or b"", one.value()

    def whole(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Everything that was there at the beginning. Raises NoAnswerError when Kafka stops answering."""
        moved = time.monotonic()
        while not self.caught_up:
            for pair in self.poll(0.5):
                moved = time.monotonic()
                yield pair
            if time.monotonic() - moved > _ANSWER_S:
                raise NoAnswerError(f"{self._name} cannot be read to its end; is Kafka up?")

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


def newest(kafka: KafkaSettings, topic: Topic) -> dict[bytes, bytes]:
    """The newest value of each key of a compacted topic. Raises NoAnswerError."""
    found: dict[bytes, bytes] = {}
    reader = Reader(kafka, topic)
    try:
        for key, value in reader.whole():
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
    finally:
        reader.close()
    return found


def open_alerts(kafka: KafkaSettings) -> list[dict[str, Any]]:
    """The state of every alert that is not closed, the most pressing first. Raises NoAnswerError."""
    found: list[dict[str, Any]] = []
    for value in newest(kafka, topics.ALERT_STATE).values():
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # a stranger's record
            alert = orjson.loads(value)
            pressing(alert)
            found.append(alert)
    return sorted(found, key=pressing)


def events(kafka: KafkaSettings, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Alert events that Kafka still holds, each once, in the order of their making. Raises NoAnswerError."""
    found: dict[str, dict[str, Any]] = {}
    reader = Reader(kafka, topics.ALERTS)
    try:
        for _, value in reader.whole():
            event = orjson.loads(value or b"null")
            if event and keep(event):
                found.setdefault(event["event_id"], event)
    finally:
        reader.close()
    return sorted(found.values(), key=lambda e: (e["detected_at"], e["alert_id"], e["number"]))
