"""The table of dead letters: written with the batch, deduplicated while open, resolved by a replay."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitalgate.devices.identity import dead_letter_id, payload_hash
from vitalgate.devices.records import Dead, Message
from vitalgate.storage import publics
from vitalgate.storage.connect import Connection
from vitalgate.storage.publics import number
from vitalgate.storage.times import moment

if TYPE_CHECKING:
    from vitalgate.storage.work import Work

_EMPTY = payload_hash(b"")


@dataclass(slots=True)
class _Row:
    message: Message
    dead: Dead
    by_recorder: bool
    seen: int = 1


def clean(text: str) -> str:
    """Text that PostgreSQL can hold: NUL and half surrogate pairs become the replacement character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def trace(message: Message) -> uuid.UUID | None:
    """The trace id, None for anything but 32 hex digits."""
    try:
        return uuid.UUID(hex=message.trace) if len(message.trace) == 32 else None
    except ValueError:
        return None


def write(connection: Connection, work: Work) -> None:
    """Insert the dead letters of a batch; one that is open already, byte for byte, is counted as a duplicate.

    A message that replays a dead letter resolves it, unless it ran into the very same refusal again.
    """
    resends = _resends(connection, work)
    rows: dict[tuple[str, bytes, int], _Row] = {}
    for message in work.messages:
        here = work.found_here.get(message.offset, [])
        for dead, by_recorder in [(d, False) for d in message.dead] + [(d, True) for d in here]:
            if (message.offset, dead.item) in resends:
                work.applied.duplicate += 1
                continue
            key = (message.device, message.payload_hash, dead.item)
            if key in rows:
                rows[key].seen += 1
                work.applied.duplicate += 1
            else:
                rows[key] = _Row(message, dead, by_recorder)
            if by_recorder:
                work.applied.dead.append(
                    publics.dead_letter(message, work.applied.partition, work.message_id(message), dead)
                )
    hit = _insert(connection, work, list(rows.values())) if rows else set()
    for message in work.messages:
        if message.replay_of is not None and message.replay_of not in hit:
            connection.execute(
                "UPDATE dead_letters SET resolved_at = now(), resolved_by = %s WHERE id = %s AND resolved_at IS NULL",
                (f"{work.applied.partition}-{message.offset}", message.replay_of),
            )


def _resends(connection: Connection, work: Work) -> set[tuple[int, int]]:
    """(offset, item) of refused items of resent messages whose same content was refused before."""
    asked = [(m, d.item) for m in work.messages if m.repeat and m.content_hash and m.replay_of is None for d in m.dead]
    if not asked:
        return set()
    found = connection.execute(
        """
        SELECT DISTINCT k.n FROM unnest(%s::text[], %s::bytea[], %s::integer[]) WITH ORDINALITY AS k (device, hash,
        item, n)
        JOIN dead_letters d
          ON d.device_id = k.device AND d.content_hash = k.hash AND d.item = k.item AND d.resolved_at IS NULL
        """,
        ([m.device for m, _ in asked], [m.content_hash for m, _ in asked], [item for _, item in asked]),
    ).fetchall()
    return {(asked[n - 1][0].offset, asked[n - 1][1]) for (n,) in found}


def _insert(connection: Connection, work: Work, rows: list[_Row]) -> set[int]:
    """Insert or count up; returns the ids of open dead letters that were met again."""
    payloads = {
        row.message.payload_hash: row.message.payload
        for row in rows
        if row.message.payload or row.message.payload_hash == _EMPTY
    }
    if payloads:
        connection.execute(
            "INSERT INTO payloads (hash, bytes) SELECT * FROM unnest(%b::bytea[], %b::bytea[]) ON CONFLICT DO NOTHING",
            (list(payloads), list(payloads.values())),
        )
    partition = work.applied.partition
    fields = [
        (
            dead_letter_id(partition, m.offset, d.item), clean(m.device), d.reason, clean(d.detail), d.item,
            clean(m.mqtt_topic), moment(m.received_us),
            m.payload_hash, m.content_hash, clean(m.epoch) or None, number(m), trace(m), m.offset,
            row.seen, row.by_recorder,
        )
        for row in rows
        for m, d in [(row.message, row.dead)]
    ]  # fmt: skip
    found = connection.execute(
        """
        INSERT INTO dead_letters AS d (dead_id, device_id, reason, detail, item, mqtt_topic, received_at,
            payload_hash, content_hash, epoch, seq, trace, raw_offset, seen, by_recorder, last_seen_at, raw_partition)
        SELECT u.*, u.received_at, %s FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::integer[],
        %s::text[],
            %s::timestamptz[], %b::bytea[], %b::bytea[], %s::text[], %s::bigint[], %s::uuid[], %s::bigint[],
            %s::integer[],
            %s::boolean[]) AS u (dead_id, device_id, reason, detail, item, mqtt_topic, received_at, payload_hash,
            content_hash, epoch, seq, trace, raw_offset, seen, by_recorder)
        ON CONFLICT (device_id, payload_hash, item) WHERE resolved_at IS NULL
        DO UPDATE SET seen = d.seen + excluded.seen, last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at)
        RETURNING d.id, d.xmax = 0
        """,
        (partition, *(list(column) for column in zip(*fields, strict=True))),
    ).fetchall()
    new = sum(1 for _, fresh in found if fresh)
    work.applied.dead_lettered += new
    work.applied.duplicate += len(found) - new
    for row in rows:
        reasons = work.applied.reasons
        reasons[row.dead.reason] = reasons.get(row.dead.reason, 0) + 1
    return {identity for identity, fresh in found if not fresh}
