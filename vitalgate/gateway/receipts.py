"""What a device is told about its numbered messages, and how often. Pure: time comes in as an argument."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from vitalgate.devices.records import DeviceSequences, Kept

#: Reasons that the recorder, not intake, finds; intake's are in `DeviceSequences.rejected` already.
RECORDER_REASONS = frozenset({"sequence_reused"})
#: Rejections named in one receipt, the latest.
REJECTED_MAX = 50


class Receipt(NamedTuple):
    """One receipt of one device and epoch."""

    device: str
    epoch: str
    payload: bytes


def encode_receipt(
    epoch: str,
    kept_through: int,
    beyond: Iterable[tuple[int, int]],
    rejected: Iterable[tuple[int, str, str]],
) -> bytes:
    """The JSON of a receipt: every number up to `kept_through`, and the closed ranges `beyond` it, are kept.

    ``{"epoch":"k3f9","kept_through":17,"beyond":[[19,20]],"rejected":[{"seq":16,"reason":"…","detail":"…"}]}``;
    `beyond` is left out when empty. A rejected number is kept too: it was answered for, and needs no resending.
    """
    document: dict[str, Any] = {"epoch": epoch, "kept_through": kept_through}
    ranges = [list(item) for item in beyond]
    if ranges:
        document["beyond"] = ranges
    document["rejected"] = [{"seq": seq, "reason": reason, "detail": detail} for seq, reason, detail in rejected]
    return orjson.dumps(document)


def receipts_of(sequences: DeviceSequences) -> list[Receipt]:
    """The receipts that one update of a device's memory calls for: one for each epoch it is about."""
    known = {kept.epoch: kept for kept in sequences.epochs}
    out = []
    for epoch in dict.fromkeys(sequences.touched):
        kept = known.get(epoch)
        if kept is None:
            continue
        rejected = [(seq, reason, detail) for of, seq, reason, detail in sequences.rejected if of == epoch]
        payload = encode_receipt(epoch, kept.through, kept.beyond, rejected[-REJECTED_MAX:])
        out.append(Receipt(sequences.device, epoch, payload))
    return out


def receipt_of_dead_letter(document: dict[str, Any], kept: Kept | None) -> Receipt | None:
    """The receipt for a refusal found after intake, or None when the dead letter calls for none."""
    device, epoch, seq = document.get("device_id"), document.get("epoch"), document.get("seq")
    if document.get("reason") not in RECORDER_REASONS or not device or not epoch or not isinstance(seq, int) or seq < 0:
        return None
    through = kept.through if kept is not None else -1
    refusal = (seq, str(document["reason"]), str(document.get("detail", "")))
    return Receipt(device, epoch, encode_receipt(epoch, through, kept.beyond if kept is not None else (), [refusal]))


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
