"""Dead letters for people: found by id, reason, device and time, shown, and sent through again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confluent_kafka import KafkaException, Producer

from vitalgate.config.kafka_client import producer_options
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.config.topics import RAW, full
from vitalgate.devices.reasons import Reason
from vitalgate.storage.errors import StorageError
from vitalgate.storage.session import Session

_SELECT = """
    SELECT d.id, d.dead_id, d.device_id, d.reason, d.detail, d.item, d.mqtt_topic, d.received_at, p.bytes,
    d.payload_hash,
           d.epoch, d.seq, coalesce(replace(d.trace::text, '-', ''), ''), d.seen, d.last_seen_at, d.replays,
           d.replayed_at,
           d.resolved_at, d.resolved_by
    FROM dead_letters d LEFT JOIN payloads p ON p.hash = d.payload_hash
    WHERE (%(ids)s::bigint[] IS NULL OR d.id = ANY(%(ids)s)) AND (%(reason)s::text IS NULL OR d.reason = %(reason)s)
      AND (%(device)s::text IS NULL OR d.device_id = %(device)s)
      AND (%(start)s::timestamptz IS NULL OR d.received_at >= %(start)s)
      AND (%(stop)s::timestamptz IS NULL OR d.received_at < %(stop)s)
      AND (%(resolved)s OR d.resolved_at IS NULL)
    ORDER BY d.id LIMIT %(limit)s
"""


@dataclass(frozen=True)
class DeadLetter:
    """One row of the table."""

    id: int
    dead_id: str
    device: str
    reason: str
    detail: str
    item: int
    mqtt_topic: str
    received_at: datetime
    payload: bytes | None
    payload_hash: bytes
    epoch: str | None
    seq: int | None
    trace: str
    seen: int
    last_seen_at: datetime
    replays: int
    replayed_at: datetime | None
    resolved_at: datetime | None
    resolved_by: str | None

    def line(self) -> str:
        """One line for a list."""
        state = "resolved" if self.resolved_at else "replayed" if self.replayed_at else "open"
        times = f" x{self.seen}" if self.seen > 1 else ""
        return (
            f"{self.id:>8}  {self.received_at:%Y-%m-%d %H:%M:%S}  {self.device:<20} {self.reason:<18} {state:<9}"
            f"{self.detail[:80]}{times}"
        )

    def document(self) -> dict[str, Any]:
        """For `--json`; the payload as text where it is UTF-8, else in hexadecimal."""
        fields: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "id", "dead_id", "device", "reason", "detail", "item", "mqtt_topic", "received_at", "epoch", "seq",
                "trace",
                "seen", "last_seen_at", "replays", "replayed_at", "resolved_at", "resolved_by",
            )
        }  # fmt: skip
        fields["payload_hash"] = self.payload_hash.hex()
        if self.payload is not None:
            try:
                fields["payload"] = self.payload.decode()
            except UnicodeDecodeError:
                fields["payload_hex"] = self.payload.hex()
        return fields


@dataclass(frozen=True)
class Wanted:
    """Which dead letters; what is None does not matter."""

    ids: Sequence[int] | None = None
    reason: str | None = None
    device: str | None = None
    start: datetime | None = None
    stop: datetime | None = None
    resolved: bool = False
    """Those that are resolved as well."""
    limit: int = 1000


@dataclass(frozen=True)
class Replayed:
    """What a replay did."""

    sent: list[DeadLetter]
    refused: list[tuple[int, str]]
    """(id, why) of those that were not sent."""


class DeadLetters:
    """One connection; for one thread at a time."""

    def __init__(self, database: DatabaseSettings) -> None:
        self._session = Session(database, "deadletters", database.batch_timeout_s)

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def find(self, wanted: Wanted) -> list[DeadLetter]:
        """Matching dead letters, oldest first. Raises TransientDatabaseError when the database is away."""
        with self._session.transaction() as connection:
            rows = connection.execute(
                _SELECT,
                {
                    "ids": None if wanted.ids is None else list(wanted.ids), "reason": wanted.reason,
                    "device": wanted.device, "start": wanted.start, "stop": wanted.stop, "resolved": wanted.resolved,
                    "limit": wanted.limit,
                },
            ).fetchall()  # fmt: skip
        return [DeadLetter(*row) for row in rows]

    def replay(self, wanted: Wanted, kafka: KafkaSettings, *, again: bool = False, timeout_s: float = 30.0) -> Replayed:
        """Send matching dead letters through again as new raw records that name them.

        A resolved one is not sent again, nor one that was sent and has not come back yet, unless `again`. A row is
        locked while it is sent, so that two replays at once do not both send it.

        Raises
        ------
        StorageError
            When Kafka does not take them.
        TransientDatabaseError
            When the database is away.
        """
        sent: list[DeadLetter] = []
        refused: list[tuple[int, str]] = []
        every = Wanted(wanted.ids, wanted.reason, wanted.device, wanted.start, wanted.stop, True, wanted.limit)
        for dead in self.find(every if wanted.ids is not None else wanted):
            if why := _why_not(dead, again):
                refused.append((dead.id, why))
            else:
                sent.append(dead)
        if sent:
            sent = self._send(sent, kafka, again, timeout_s)
        if wanted.ids is not None:
            found = {dead.id for dead in sent} | {number for number, _ in refused}
            refused += [(number, "there is no such dead letter") for number in wanted.ids if number not in found]
        return Replayed(sent, refused)

    def _send(
        self, chosen: Sequence[DeadLetter], kafka: KafkaSettings, again: bool, timeout_s: float
    ) -> list[DeadLetter]:
        failed: list[str] = []
        with self._session.transaction() as connection:
            locked = {
                number
                for (number,) in connection.execute(
                    "UPDATE dead_letters SET replays = replays + 1, replayed_at = now() WHERE id = ANY(%s)"
                    " AND resolved_at IS NULL AND (%s OR replayed_at IS NULL) RETURNING id",
                    ([dead.id for dead in chosen], again),
                ).fetchall()
            }
            sent = [dead for dead in chosen if dead.id in locked]
            producer = Producer(
                producer_options(kafka, "vitalgate-replay")
                | {"message.timeout.ms": round(timeout_s * 1000), "log_level": 0, "error_cb": lambda _: None}
            )
            try:
                for dead in sent:
                    producer.produce(
                        full(RAW, kafka),
                        dead.payload,
                        dead.device or "unknown",
                        headers=raw_headers(dead),
                        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
                    )
                    producer.poll(0)
                rest = producer.flush(timeout_s + 1)
            except (KafkaException, BufferError) as error:
                raise StorageError(f"Kafka at {kafka.bootstrap} did not take the replay: {error}") from error
            if rest or failed:
                why = failed[0] if failed else f"no answer within {timeout_s:g} s"
                raise StorageError(
                    f"Kafka at {kafka.bootstrap} did not take {rest + len(failed)} of {len(sent)} dead letters "
                    f"({why}); "
                    "none counts as replayed, try again"
                )
        return sent


def raw_headers(dead: DeadLetter) -> list[tuple[str, str | bytes | None]]:
    """Headers of the new raw record: those of the old one, and which dead letter it replays."""
    received = dead.received_at.timestamp()
    return [
        ("schema", RAW.name),
        ("schema_version", "1"),
        ("topic", dead.mqtt_topic),
        ("received_at", str(round(received * 1_000_000))),
        ("trace", dead.trace),
        ("gateway", "replay"),
        ("message_id", dead.payload_hash.hex()),
        ("replay_of", str(dead.id)),
        ("replay_item", str(dead.item)),
    ]


def _why_not(dead: DeadLetter, again: bool) -> str:
    if dead.resolved_at is not None:
        return f"resolved {dead.resolved_at:%Y-%m-%d %H:%M:%S} UTC by {dead.resolved_by}"
    if dead.payload is None:
        return "its original bytes are not kept"
    if dead.reason == Reason.OVERSIZE:
        return "only the beginning of its bytes is kept"
    if dead.replayed_at is not None and not again:
        return f"replayed {dead.replayed_at:%Y-%m-%d %H:%M:%S} UTC, not resolved; --again sends it once more"
    return ""
