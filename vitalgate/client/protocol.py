"""When to send which message again, and what a receipt settles. Pure: time and chance come in as arguments.

The promise a device can rely on is the receipt, not the broker's PUBACK: a message stays in the outbox until a
receipt names its (epoch, seq). Until then it is sent again, later and later, and at once after a reconnect. Sending
twice does no harm, for the numbers make the second a repeat.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import cbor2

Key = tuple[str, int]
"""(epoch, seq): what names a message."""


class ReceiptError(ValueError):
    """The payload is not a receipt."""


class Rejected(NamedTuple):
    """A message that was refused, wholly or in part, for good: sending it again would change nothing."""

    epoch: str
    seq: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Receipt:
    """What the server has of one epoch."""

    epoch: str
    kept_through: int
    """Every number up to this one is kept."""
    beyond: tuple[tuple[int, int], ...] = ()
    """Closed ranges that are kept beyond it."""
    rejected: tuple[Rejected, ...] = ()

    def covers(self, seq: int) -> bool:
        """Whether a number of this epoch needs no sending any more."""
        return (
            seq <= self.kept_through
            or any(first <= seq <= last for first, last in self.beyond)
            or any(item.seq == seq for item in self.rejected)
        )


def _is_seq(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_receipt(payload: bytes) -> Receipt:
    """A receipt as it arrives on ``v1/devices/{device}/receipts``; fields that are not known are passed over.

    Raises
    ------
    ReceiptError
        When it is not JSON of that form.
    """
    try:
        document = json.loads(payload)
        epoch, through = document["epoch"], document.get("kept_through", -1)
        ranges = tuple((first, last) for first, last in document.get("beyond", ()))
        rejected = tuple(
            Rejected(epoch, item["seq"], str(item.get("reason", "")), str(item.get("detail", "")))
            for item in document.get("rejected", ())
        )
        numbers = [through, *(item.seq for item in rejected), *(n for pair in ranges for n in pair)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReceiptError(f"not a receipt ({error!r}): {payload[:200]!r}") from error
    if not isinstance(epoch, str) or not all(_is_seq(number) for number in numbers):
        raise ReceiptError(f"not a receipt: {payload[:200]!r}")
    return Receipt(epoch, through, ranges, rejected)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message(body: bytes, epoch: str, seq: int, sent_at: float | None) -> bytes:
    """The payload to publish: a stored body with its number and the time of this very sending put in front.

    A device without a clock that runs at the world's pace gives None, and sends no time. `body` is a JSON object or a
    CBOR map of fewer than 21 pairs, without those three fields.

    Raises
    ------
    ValueError
        When it is neither.
    """
    fields: dict[str, Any] = {"epoch": epoch, "seq": seq}
    if sent_at is not None:
        fields["sent_at"] = timestamp(sent_at)
    if body[:1] == b"{":
        head = json.dumps(fields, separators=(",", ":")).encode()[:-1]
        return head + (b"," if body[1:].lstrip() != b"}" else b"") + body[1:]
    if body and 0xA0 <= body[0] < 0xB5:
        return bytes([body[0] + len(fields)]) + cbor2.dumps(fields)[1:] + body[1:]
    raise ValueError("a body must be a JSON object or a short CBOR map")


def declaration(epoch: str, seq: int, sent_at: float | None, *, cbor: bool = False) -> bytes:
    """A status message that says: this number will never come. It bears no number itself, and may come again."""
    fields: dict[str, Any] = {"epoch": epoch, "lost": [seq], "state": "online"}
    if sent_at is not None:
        fields["sent_at"] = timestamp(sent_at)
    return cbor2.dumps(fields) if cbor else json.dumps(fields, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Policy:
    """How patient a device is."""

    first_s: float = 5.0
    """Without a receipt, sent again after this."""
    cap_s: float = 120.0
    """The wait doubles at each sending up to this."""
    jitter: float = 0.25
    """Every wait varies by up to this share, so that a fleet does not march in step."""
    window: int = 64
    """Messages that may be on their way without a receipt."""

    def wait(self, attempt: int, chance: float) -> float:
        """Seconds before the sending after the `attempt`-th (1, 2, …); `chance` is uniform in [0, 1)."""
        base: float = min(self.cap_s, self.first_s * 2.0 ** min(attempt - 1, 30))
        return base * (1 + self.jitter * (2 * chance - 1))


@dataclass
class _Pending:
    due: float
    attempts: int = 0


@dataclass
class Settled:
    """What a receipt changed."""

    kept: list[Key] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    """Of these only the ones that were not settled before."""


class Tracker:
    """Which of the messages in an outbox are to be sent now.

    Messages keep the order in which they were added. At most `policy.window` of them are on their way: a backlog of
    hours goes out as fast as receipts come back and no faster.
    """

    def __init__(self, policy: Policy | None = None, chance: Callable[[], float] = random.random) -> None:
        self.policy = policy or Policy()
        self._chance = chance
        # By epoch, each ascending in seq; epochs in the order of their first message.
        self._epochs: dict[str, dict[int, _Pending]] = {}
        self._connected = False

    def __len__(self) -> int:
        return sum(len(pending) for pending in self._epochs.values())

    def __contains__(self, key: Key) -> bool:
        return key[1] in self._epochs.get(key[0], {})

    def add(self, epoch: str, seq: int, now: float) -> None:
        """A message is in the outbox and is to be sent as soon as there is room."""
        self._epochs.setdefault(epoch, {})[seq] = _Pending(now)

    def connected(self, now: float) -> None:
        """A connection is up: everything without a receipt is due."""
        self._connected = True
        for pending in self._all():
            pending.due = now

    def disconnected(self) -> None:
        """The connection has gone: nothing can be sent."""
        self._connected = False

    def due(self, now: float) -> list[Key]:
        """The messages to send now, oldest first; call `sent` for each that was handed to the connection."""
        if not self._connected:
            return []
        return [key for key, pending in self._window() if pending.due <= now]

    def next_due(self) -> float | None:
        """When `due` will next have something, or None while nothing waits or there is no connection."""
        if not self._connected:
            return None
        return min((pending.due for _, pending in self._window()), default=None)

    def sent(self, key: Key, now: float) -> None:
        """A message was handed to the connection."""
        pending = self._epochs.get(key[0], {}).get(key[1])
        if pending is not None:
            pending.attempts += 1
            pending.due = now + self.policy.wait(pending.attempts, self._chance())

    def postpone(self, key: Key, due: float) -> None:
        """Change when a message is to be sent next."""
        pending = self._epochs.get(key[0], {}).get(key[1])
        if pending is not None:
            pending.due = due

    def receipt(self, receipt: Receipt) -> Settled:
        """Take a receipt; what it settles leaves the tracker and may leave the outbox."""
        settled = Settled()
        pending = self._epochs.get(receipt.epoch)
        if pending is None:
            return settled
        for item in receipt.rejected:
            if pending.pop(item.seq, None) is not None:
                settled.rejected.append(item)
        settled.kept = [(receipt.epoch, seq) for seq in self._covered(pending, receipt)]
        for _, seq in settled.kept:
            del pending[seq]
        if not pending:
            del self._epochs[receipt.epoch]
        return settled

    def forget(self, key: Key) -> bool:
        """Give a message up; False when it is not there."""
        pending = self._epochs.get(key[0], {})
        if pending.pop(key[1], None) is None:
            return False
        if not pending:
            del self._epochs[key[0]]
        return True

    def keys(self) -> list[Key]:
        """All messages without a receipt, in order."""
        return [(epoch, seq) for epoch, pending in self._epochs.items() for seq in pending]

    @staticmethod
    def _covered(pending: dict[int, _Pending], receipt: Receipt) -> Iterable[int]:
        out = []
        last = max((stop for _, stop in receipt.beyond), default=receipt.kept_through)
        for seq in pending:
            if seq > max(last, receipt.kept_through):
                break
            if receipt.covers(seq):
                out.append(seq)
        return out

    def _all(self) -> Iterator[_Pending]:
        for pending in self._epochs.values():
            yield from pending.values()

    def _window(self) -> Iterator[tuple[Key, _Pending]]:
        room = self.policy.window
        for epoch, pending in self._epochs.items():
            for seq, item in pending.items():
                if room <= 0:
                    return
                room -= 1
                yield (epoch, seq), item
