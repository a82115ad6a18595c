"""An independent witness: what a stranger's Kafka consumer sees on the public topics, against what the tables say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import ALERTS, BEATS, READINGS, Topic, full
from vitalgate.torture.outcome import Outcome

_WATCHED = (READINGS, BEATS, ALERTS)


@dataclass
class Seen:
    """What came by on the public topics, of one round."""

    readings: dict[tuple[Any, ...], set[tuple[Any, ...]]] = field(default_factory=dict)
    """(role, metric, site, µs after the start, index, version) to (value, code) seen under that name."""
    blocks: dict[tuple[Any, ...], tuple[int, int]] = field(default_factory=dict)
    """(role, channel, recording, block) to (newest revision, its number of beats)."""
    alerts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Alert id to (kind, state after the last event)."""
    records: int = 0
    repeats: int = 0
    """Records whose message id had come before: allowed, and dropped by whoever counts."""

    @property
    def technical(self) -> frozenset[str]:
        """Alerts about the equipment."""
        return frozenset(alert for alert, (kind, _) in self.alerts.items() if kind == "technical")

    def against(self, outcome: Outcome) -> list[str]:
        """What the tables have and the topics have not, in words."""
        faults = []
        unseen = [
            row
            for row in outcome.readings
            if (row[8], row[9]) not in self.readings.get(tuple(row[:6]), ()) and not row[7]
        ]
        if unseen:
            faults.append(f"{len(unseen)} readings never came by on {READINGS.name}, such as {unseen[0]}")
        other = [
            row
            for row in outcome.blocks
            if self.blocks.get(tuple(row[:4]), (0, -1))[1] != row[6]
        ]  # fmt: skip
        if other:
            faults.append(f"{len(other)} blocks of beats are not those on {BEATS.name}, such as {other[0]}")
        raised = sum(kind != "technical" and state != "retracted" for kind, state in self.alerts.values())
        if raised != len(outcome.alerts):
            faults.append(
                f"{raised} physiological alerts came by on {ALERTS.name}, the table has {len(outcome.alerts)}"
            )
        return faults


class Witness:
    """Reads the public topics with kafka-python, each record once, from where it stopped."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._at: dict[tuple[str, int], int] = {}
        self._kept: list[tuple[str, dict[str, Any], bytes]] = []

    def look(self, devices: Mapping[str, str], patients: Mapping[str, str], start_us: int) -> Seen:
        """All that came by of these devices and patients until now. Raises KafkaError when Kafka does not answer."""
        self._kept += [
            (topic.name, document, identity)
            for topic, document, identity in self._read()
            if document.get("device_id") in devices or document.get("patient") in patients
        ]
        seen = Seen()
        known: set[bytes] = set()
        for name, document, identity in self._kept:
            seen.records += 1
            seen.repeats += identity in known
            known.add(identity)
            if name == READINGS.name and document["device_id"] in devices:
                _readings(seen, document, devices[document["device_id"]], start_us)
            elif name == BEATS.name and document["device_id"] in devices:
                key = (devices[document["device_id"]], document["channel"], document["recording"], document["block"])
                newest = (int(document["revision"]), len(document["beats"]))
                seen.blocks[key] = max(newest, seen.blocks.get(key, newest))
            elif name == ALERTS.name and document["patient"] in patients:
                seen.alerts[document["alert_id"]] = (document["kind"], document["state"])
        return seen

    def forget(self) -> None:
        """The round is over."""
        self._kept.clear()

    def _read(self) -> Iterator[tuple[Topic, dict[str, Any], bytes]]:
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(
            bootstrap_servers=self._kafka.bootstrap.split(","), enable_auto_commit=False, consumer_timeout_ms=2000
        )
        try:
            for topic in _WATCHED:
                name = full(topic, self._kafka)
                parts = [TopicPartition(name, n) for n in range(topic.partitions or self._kafka.partitions)]
                ends = consumer.end_offsets(parts)
                left = [part for part in parts if self._at.get((name, part.partition), 0) < ends[part]]
                if not left:
                    continue
                consumer.assign(left)
                for part in left:
                    consumer.seek(part, self._at.get((name, part.partition), 0))
                while any(consumer.position(part) < ends[part] for part in left):
                    for records in consumer.poll(timeout_ms=1000).values():
                        for record in records:
                            headers = dict(record.headers)
                            yield topic, json.loads(record.value), headers.get("message_id", b"")
                for part in left:
                    self._at[name, part.partition] = consumer.position(part)
        finally:
            consumer.close()


def _readings(seen: Seen, document: Mapping[str, Any], role: str, start_us: int) -> None:
    for reading in document["readings"]:
        at = datetime.fromisoformat(reading["time"].replace("Z", "+00:00"))
        place = (
            role, reading["metric"], reading["site"], _us(at) - start_us, reading["index"], reading["version"],
        )  # fmt: skip
        seen.readings.setdefault(place, set()).add((reading["value"], reading["code"]))


def _us(at: datetime) -> int:
    return int(at.replace(microsecond=0).timestamp()) * 1_000_000 + at.microsecond
