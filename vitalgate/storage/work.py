"""The work on one batch: its messages, their encoded common columns, and what has come of it so far."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec

from vitalgate.devices import identity
from vitalgate.devices.records import Dead, Message
from vitalgate.storage import binary, publics, rows, statuses
from vitalgate.storage.applied import Applied


class Work:
    """One attempt at a batch; thrown away when the transaction fails."""

    def __init__(self, messages: list[Message], applied: Applied) -> None:
        self.messages = messages
        self.applied = applied
        self.items = sum(message.items() for message in messages)
        self.renumbered: list[list[Any]] = []
        """Measurements whose stored versions changed their numbers: [device, metric, site, time_us, idx, offset]."""
        self.found_here: dict[int, list[Dead]] = {}
        """Items refused by the tables, by raw offset."""
        self._ids: dict[int, str] = {}
        self._origins: dict[int, rows.Origin] = {}
        self._entries: dict[int, tuple[Message, list[dict[str, Any]]]] = {}
        self._adopted: dict[int, tuple[Message, int, str]] = {}

    def message_id(self, message: Message) -> str:
        """The message's content identity."""
        known = self._ids.get(id(message))
        if known is None:
            adopted = self._adopted.get(id(message))
            known = self._ids[id(message)] = adopted[2] if adopted else identify(message)
        return known

    def adopt(self, message: Message, partition: int, message_id: str) -> None:
        """Take in a message of an earlier batch, whose kept correction comes true only now."""
        self._adopted[id(message)] = (message, partition, message_id)

    def holds(self, message: Message) -> bool:
        """Whether the message is of this batch, and not an earlier one taken in."""
        return id(message) not in self._adopted

    def origin(self, message: Message) -> rows.Origin:
        """The columns that all rows of a message share."""
        known = self._origins.get(id(message))
        if known is None:
            adopted = self._adopted.get(id(message))
            partition = adopted[1] if adopted else self.applied.partition
            known = self._origins[id(message)] = rows.origin(message, partition, self.message_id(message))
        return known

    def publish_reading(self, message: Message, entry: dict[str, Any]) -> None:
        """Add an entry to the public record of a message."""
        self.publish_readings(message, [entry])

    def publish_readings(self, message: Message, entries: list[dict[str, Any]]) -> None:
        """Add entries to the public record of a message."""
        held = self._entries.get(id(message))
        if held is None:
            self._entries[id(message)] = (message, entries)
        else:
            held[1].extend(entries)

    def stored_times(self) -> list[tuple[str, list[int]]]:
        """(device, event times in microseconds) of the readings of each message of which something was stored."""
        return [
            (message.device, [reading.time_us for reading in message.readings])
            for message, _ in self._entries.values()
            if message.readings
        ]

    def refuse(self, message: Message, item: int, reason: str, detail: str) -> None:
        """Dead-letter an item that intake had let through."""
        self.found_here.setdefault(message.offset, []).append(Dead(item, reason, detail))

    def refuse_all(self, message: Message, reason: str, detail: str) -> None:
        """Dead-letter every item that intake had let through, and write nothing else of the message."""
        items = [r.item for r in message.readings] + [w.item for w in message.waveforms]
        if message.status is not None:
            items.append(message.status.item)
        for item in items:
            self.refuse(message, item, reason, detail)
        self._replace(message, readings=[], waveforms=[], status=None)

    def complete_payloads(self, fetch: Callable[[int, int], bytes | None] | None) -> None:
        """Give messages refused only here their original bytes, which intake had no reason to pass on."""
        for message in list(self.messages):
            if message.offset in self.found_here and not message.payload and fetch is not None:
                self._replace(message, payload=fetch(self.applied.partition, message.offset) or b"")

    def _replace(self, message: Message, **changes: Any) -> None:
        place = next(i for i, other in enumerate(self.messages) if other is message)
        self.messages[place] = msgspec.structs.replace(message, **changes)

    def finish(self) -> None:
        """Encode the public records; after the last entry was added and before they are used."""
        self.applied.public_readings = [
            publics.readings(
                message.device, self.message_id(message), message.trace, publics.moment(message.received_us), entries
            )
            for message, entries in sorted(self._entries.values(), key=lambda held: held[0].offset)
        ]


def identify(message: Message) -> str:
    """Content identity of a message."""
    return identity.message_id(message.device, message.epoch, message.seq, message.content_hash, message.payload_hash)


def unencodable(message: Message, partition: int) -> str | None:
    """Why a message cannot be made into rows; None when it can."""
    try:
        shared = rows.origin(message, partition, identify(message))
        publics.moment(message.received_us)
        for r in message.readings:
            rows.reading(shared, r)
            publics.readings("", "", "", publics.EPOCH, [publics.reading(message, r, 1, True)])
        for w in message.waveforms:
            rows.waveform(shared, w)
            publics.waveform(message, "", w, 1)
        if message.status is not None:
            rows.status(shared, message.status, statuses.digest(message.status))
    except binary.Unstorable as error:
        return str(error)
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        return f"a value does not fit its column ({type(error).__name__}: {error})"
    return None
