"""One simulated device on the network: its outbox, its numbers, its connection, and its journal entries.

When to send what again is decided by the client library's own `Tracker`; only the connection is different, so that one
process can be thousands of devices.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vitalgate.client.outbox import MemoryOutbox
from vitalgate.client.protocol import Key, Policy, ReceiptError, Tracker, message, read_receipt
from vitalgate.config.topics import device_topic
from vitalgate.devices.codec import encode_cbor, encode_json
from vitalgate.simulators.connection import Connection
from vitalgate.simulators.firmware import Emission, Firmware
from vitalgate.simulators.journal import Journal
from vitalgate.simulators.packing import ready

#: Sent messages that are remembered, so that one can be corrected or repeated.
_REMEMBERED = 400
_KEPT_OF_OVERSIZE = 65536
"""Of a message that is too large only the beginning is kept; its hash is what the dead letter has."""
_BACKOFF = (0.3, 10.0)


@dataclass(frozen=True)
class Account:
    """How a device gets in: where the broker is, and as whom."""

    host: str
    port: int
    device: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None = None
    """A context for an encrypted connection."""


@dataclass(frozen=True)
class SentMessage:
    """A message that has been made: its number and content."""

    key: Key | None
    emission: Emission
    body: bytes
    """Encoded, without number."""


class SimulatedDevice:
    """Sends what the firmware makes until it is receipted, over a connection that a scenario may cut.

    All methods are called on one asyncio loop.
    """

    def __init__(
        self,
        account: Account,
        firmware: Firmware,
        journal: Journal,
        *,
        patient: str,
        say_when: bool,
        policy: Policy | None = None,
    ) -> None:
        self.account = account
        self.firmware = firmware
        self.patient = patient
        """Whose device it is now; empty for nobody's."""
        self.journal = journal
        self.remembered: deque[SentMessage] = deque(maxlen=_REMEMBERED)
        self.corrected: set[Key] = set()
        """Messages of which something was corrected: repeating one would set the old value again."""
        self.outbox = MemoryOutbox()
        self.tracker = Tracker(policy)
        self.publishes = 0
        self.connects = 0
        self.refused = ""
        self._say_when = say_when and firmware.given.sent_at
        self._numbers: dict[Key, int] = {}
        self._plain: dict[int, tuple[str, bytes]] = {}
        """Messages without number that the broker has not acknowledged, by journal number."""
        self._on_the_way: dict[int, int] = {}
        """Packet id to journal number, of publishes that the broker has not acknowledged."""
        self._toggle = 0
        self._wanted = False
        self._attempt = 0
        self._retry: asyncio.TimerHandle | None = None
        self._connection: Connection | None = None
        self.on_receipt: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        """The device id."""
        return self.account.device

    @property
    def pending(self) -> int:
        """Messages made but neither receipted nor, without number, acknowledged by the broker."""
        return len(self.tracker) + len(self._plain)

    @property
    def connected(self) -> bool:
        """Whether the broker has let it in."""
        return self._connection is not None and self._connection.connected

    # --- making and sending ------------------------------------------------------------------------------------------

    def take(self, emission: Emission) -> SentMessage:
        """Number, journal and send one message of the firmware."""
        wire = self._wire()
        if emission.raw is not None:
            return self._take_plain(emission, emission.raw, "raw")
        body = (encode_cbor if wire == "cbor" else encode_json)(ready(emission.document, wire))
        if not self.firmware.given.numbered:
            return self._take_plain(emission, body, wire)
        key = self.outbox.add(emission.leaf, body)
        payload = message(body, *key, self._sent_at())
        self._numbers[key] = self._write_down(emission, key, payload, wire)
        sent = SentMessage(key, emission, body)
        self.remembered.append(sent)
        self.tracker.add(*key, time.monotonic())
        self.pump()
        return sent

    def _take_plain(self, emission: Emission, payload: bytes, wire: str) -> SentMessage:
        number = self._write_down(emission, None, payload, wire)
        self._plain[number] = (emission.leaf, payload)
        sent = SentMessage(None, emission, payload)
        if emission.raw is None:
            self.remembered.append(sent)
        self._send_plain(number)
        return sent

    def _write_down(self, emission: Emission, key: Key | None, payload: bytes, wire: str) -> int:
        if emission.note == "garbage oversize":
            payload = payload[:_KEPT_OF_OVERSIZE]
        return self.journal.made(
            device=self.name, kind=self.firmware.kind.name, patient=self.patient, leaf=emission.leaf,
            epoch=key[0] if key else "", seq=key[1] if key else -1, made_us=round(emission.at * 1_000_000),
            payload=payload, wire=wire, items=emission.items, note=emission.note,
        )  # fmt: skip

    def _wire(self) -> str:
        given = self.firmware.given.wire
        if given != "mixed":
            return given
        self._toggle += 1
        return "cbor" if self._toggle % 2 else "json"

    def _sent_at(self) -> float | None:
        return time.time() + self.firmware.given.clock_ahead_s if self._say_when else None

    def pump(self) -> None:
        """Send what is due."""
        if not self.connected:
            return
        for key in self.tracker.due(time.monotonic()):
            self.send(key)

    def send(self, key: Key) -> bool:
        """Send one numbered message (again); False when it has been receipted already or there is no connection."""
        stored = self.outbox.get(key)
        if stored is None:
            return False
        payload = message(stored.body, *key, self._sent_at())
        if not self._publish(stored.leaf, payload, self._numbers[key]):
            return False
        self.tracker.sent(key, time.monotonic())
        return True

    def resend(self, sent: SentMessage) -> bool:
        """Send a message once more, whether or not it was receipted: the very same number and content."""
        if sent.key is None:
            return False
        payload = message(sent.body, *sent.key, self._sent_at())
        return self._publish(sent.emission.leaf, payload, self._numbers[sent.key])

    def _send_plain(self, number: int) -> None:
        if number not in self._on_the_way.values():
            self._publish(*self._plain[number], number)

    def _publish(self, leaf: str, payload: bytes, number: int) -> bool:
        if self._connection is None:
            return False
        at_us = round(time.time() * 1_000_000)
        mid = self._connection.publish(device_topic(self.name, leaf), payload)
        if mid is None:
            return False
        self._on_the_way[mid] = number
        self.publishes += 1
        self.journal.sent(number, at_us)
        return True

    # --- the connection ----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Go online, and stay so: a lost connection is made again with growing waits."""
        self._wanted = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connection is not None:
            return
        will = encode_json({"state": "offline"})
        self._connection = Connection(
            self.account.host, self.account.port, self.name, self.account.password,
            topics=(device_topic(self.name, "receipts"),), on_message=self._message, on_change=self._change,
            tls=self.account.tls, on_puback=self._puback,
            will=(device_topic(self.name, "status"), will) if self.sends_will else None,
        )  # fmt: skip
        try:
            self._connection.open()
        except OSError as error:
            self.refused = str(error)
            self._change(False)

    #: A last will is a message that the journal cannot know to have been sent; off unless a test wants it.
    sends_will = False

    def cut(self) -> None:
        """The radio dies: no goodbye, nothing that is in the socket's buffer arrives."""
        self._wanted = False
        connection, self._connection = self._connection, None
        if connection is not None:
            self.tracker.disconnected()
            self._on_the_way.clear()
            connection.cut()

    def close(self) -> None:
        """Go offline with a goodbye."""
        self._wanted = False
        if self._retry is not None:
            self._retry.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            self.tracker.disconnected()
            connection.close()

    def _change(self, up: bool) -> None:
        if up:
            self.connects += 1
            self._attempt = 0
            self.tracker.connected(time.monotonic())
            self.pump()
            for number in list(self._plain):
                self._send_plain(number)
            return
        if self._connection is not None and self._connection.refused:
            self.refused = self._connection.refused
        self.tracker.disconnected()
        self._on_the_way.clear()
        self._connection = None
        if self._wanted:
            first, cap = _BACKOFF
            wait = min(cap, first * 2.0 ** min(self._attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
            self._attempt += 1
            self._retry = asyncio.get_running_loop().call_later(wait, self.connect)

    def _puback(self, mid: int) -> None:
        number = self._on_the_way.pop(mid, None)
        if number is not None:
            self.journal.acked(number)
            self._plain.pop(number, None)

    def _message(self, _topic: str, payload: bytes) -> None:
        try:
            receipt = read_receipt(payload)
        except ReceiptError:
            self.journal.note(f"bad receipt {self.name}", payload.decode("utf-8", "replace")[:500])
            return
        self.tracker.receipt(receipt)
        self.outbox.settle(receipt)
        rejected = [[item.seq, item.reason, item.detail] for item in receipt.rejected]
        self.journal.receipt(self.name, receipt.epoch, receipt.kept_through, rejected, round(time.time() * 1_000_000))
        if self.on_receipt is not None:
            self.on_receipt()
        self.pump()
