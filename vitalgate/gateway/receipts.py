"""What a device is told about its numbered messages, and how often. Pure: time comes in as an argument."""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import orjson

from vitalgate.devices import sequences
from vitalgate.devices.records import DeviceSequences, Kept

#: Reasons that the recorder, not intake, finds; intake's are in `DeviceSequences.rejected` already.
RECORDER_REASONS = frozenset({"sequence_reused"})


class Receipt(NamedTuple):
    """One receipt of one device and epoch."""

    device: str
    epoch: str
    payload: bytes


def receipts_of(state: DeviceSequences) -> list[Receipt]:
    """The receipts that one update of a device's memory calls for: one for each epoch it is about."""
    return [Receipt(state.device, due["epoch"], orjson.dumps(due)) for due in sequences.receipts(state)]


def receipt_of_dead_letter(document: dict[str, Any], kept: Kept | None) -> Receipt | None:
    """The receipt for a refusal found after intake, or None when the dead letter calls for none."""
    device, epoch, seq = document.get("device_id"), document.get("epoch"), document.get("seq")
    if document.get("reason") not in RECORDER_REASONS or not device or not epoch or not isinstance(seq, int) or seq < 0:
        return None
    receipt = {
        "epoch": epoch,
        "kept_through": sequences.NOTHING if kept is None else kept.through,
        "beyond": [] if kept is None else kept.beyond[:100],
        "rejected": [{"seq": seq, "reason": document["reason"], "detail": str(document.get("detail", ""))}],
    }
    return Receipt(device, epoch, orjson.dumps(receipt))


class Position(NamedTuple):
    """Where in Kafka a receipt comes from."""

    topic: str
    partition: int
    offset: int


class Coalescer:
    """At most one round of receipts a device within the interval; the first goes out at once.

    A newer receipt of the same device and epoch replaces one that waits, since it says all that the older said.
    Refusals found by the recorder are kept apart (`extra`), for they are not repeated by the next receipt.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval = interval_s
        self._waiting: dict[str, dict[tuple[str, bytes], tuple[Receipt, Position]]] = {}
        self._due: list[tuple[float, str]] = []
        self._last: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    def offer(self, receipt: Receipt, position: Position, now: float, *, extra: bool = False) -> None:
        """Take a receipt that is to be sent."""
        waiting = self._waiting.get(receipt.device)
        if waiting is None:
            self._waiting[receipt.device] = waiting = {}
            last = self._last.get(receipt.device)
            heapq.heappush(self._due, (now if last is None else max(now, last + self._interval), receipt.device))
        key = (receipt.epoch, receipt.payload if extra else b"")
        waiting[key] = (receipt, position)

    def due(self, now: float, limit: int) -> list[tuple[Receipt, Position]]:
        """Take out what may go now, at least one device's worth and not much more than `limit`."""
        out: list[tuple[Receipt, Position]] = []
        while self._due and self._due[0][0] <= now and len(out) < limit:
            _, device = heapq.heappop(self._due)
            out.extend(self._waiting.pop(device).values())
            self._last[device] = now
        if len(self._last) > 1000 and len(self._last) > 4 * (len(self._due) + len(out)):
            self._last = {device: last for device, last in self._last.items() if last + self._interval > now}
        return out

    def wait(self, now: float, longest: float) -> float:
        """Seconds until something is due, at most `longest`."""
        return min(longest, max(0.0, self._due[0][0] - now)) if self._due else longest

    def positions(self) -> list[Position]:
        """Where the waiting receipts come from: Kafka's offsets may not be committed beyond them."""
        return [position for waiting in self._waiting.values() for _, position in waiting.values()]
