"""A device: what it measures goes into the outbox, over MQTT, and out of the outbox when the receipt names it."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from vitalgate.client.connection import Identity
from vitalgate.client.courier import Courier, CourierClosed
from vitalgate.client.down import ClockEstimate, ClockFilter, DownError, Settings, TimeAnswer, read_down
from vitalgate.client.outbox import MemoryOutbox, Outbox
from vitalgate.client.protocol import (
    Key,
    Policy,
    Receipt,
    Rejected,
    message,
    timestamp,
)
from vitalgate.client.tls import Tls
from vitalgate.devices.codec import encode_cbor, encode_json

log = logging.getLogger(__name__)


class DeviceError(Exception):
    """The device was used in a way that cannot work."""


class Device:
    """One device's connection, thread-safe.

    Sending never waits for the network: the message is in the outbox when the call returns, and goes out now, or
    when there is a connection again. It leaves the outbox when a receipt names it.

    Parameters
    ----------
    host, port
        The broker.
    device_id, password
        As `vitalgate device add` gave them; the MQTT user name is the device id.
    outbox
        Path of the SQLite file, or an outbox of your own making; None keeps messages in memory only.
    clock
        The device's wall clock, seconds since 1970.
    encoding
        json or cbor (smaller; waveforms are packed).
    version
        MQTT version, 5 or 4 (which is 3.1.1). A broker that does not answer in 5 is asked in 3.1.1.
    max_message_bytes
        A larger message is refused when it is handed over: the broker would cut the connection for it, each time.
    tls
        For an encrypted connection: a `Tls` with the files of authority, certificate and key, or a context. With a
        certificate of its own (`vitalgate ca issue device ID`) a device needs no password.
    on_rejected
        Called with each message that was refused for good, on the network thread. It is in the outbox's `rejected`
        table already.
    on_receipt, on_down
        Called with every receipt, and with the payload of every message on the `down` topic.
    on_settings
        Called with the settings that the operator has given the device: after each connection, and when they change.
    connect
        False: messages are only collected until `start`.
    firmware, serial
        Told in the status message at each connection.

    Examples
    --------
    >>> with Device("broker.example", 1883, "bp-17", "…", outbox="bp-17.sqlite") as device:  # doctest: +SKIP
    ...     device.send_readings([{"metric": "heart_rate", "value": 61, "unit": "/min"}])
    ...     device.wait_until_kept(30)
    """

    def __init__(
        self,
        host: str,
        port: int,
        device_id: str,
        password: str = "",
        *,
        outbox: str | Path | Outbox | MemoryOutbox | None = None,
        clock: Callable[[], float] = time.time,
        encoding: Literal["json", "cbor"] = "json",
        version: Literal[4, 5] = 5,
        tls: ssl.SSLContext | Tls | None = None,
        policy: Policy | None = None,
        max_message_bytes: int = 1_000_000,
        on_rejected: Callable[[Rejected], None] | None = None,
        on_receipt: Callable[[Receipt], None] | None = None,
        on_down: Callable[[bytes], None] | None = None,
        on_settings: Callable[[Settings], None] | None = None,
        client_id: str | None = None,
        firmware: str = "",
        serial: str = "",
        connect: bool = True,
    ) -> None:
        if client_id is not None and not client_id.startswith(device_id):
            raise DeviceError(f"the client id {client_id!r} must begin with the device id {device_id!r}")
        self.device_id = device_id
        self.outbox = Outbox(outbox) if isinstance(outbox, (str, Path)) else outbox or MemoryOutbox()
        self._max_message_bytes = max_message_bytes
        self._clock = clock
        self._encode = encode_json if encoding == "json" else encode_cbor
        about = {key: value for key, value in (("firmware", firmware), ("serial", serial)) if value}
        context = tls.context() if isinstance(tls, Tls) else tls
        self._identity = Identity(host, port, device_id, password, client_id or device_id, version, context, about)
        self._on_rejected, self._on_receipt = on_rejected, on_receipt
        self._on_down, self._on_settings = on_down, on_settings
        self._clock_filter = ClockFilter()
        self._clock_estimate: ClockEstimate | None = None
        self._courier = Courier(
            self._identity, self.outbox, clock=clock, encode=self._encode, cbor=encoding == "cbor", policy=policy,
            on_receipt=self._receipted, on_down=self._told,
        )  # fmt: skip
        if connect:
            self.start()

    def start(self) -> None:
        """Begin to connect, once, where the device was made with ``connect=False``."""
        self._courier.start()

    # --- sending ----------------------------------------------------------------------------------------------------

    def send_readings(self, readings: Sequence[Mapping[str, Any]], **fields: Any) -> Key:
        """Send measurements as one message; returns its (epoch, seq).

        A reading without `time` gets the clock's. Raises `OutboxFull` when the outbox is at its bound.
        """
        if not readings:
            raise DeviceError("a message needs at least one reading")
        now = timestamp(self._clock())
        return self.send("readings", {**fields, "readings": [{"time": now, **reading} for reading in readings]})

    def send_waveform(
        self,
        channel: str,
        samples: Sequence[int],
        *,
        rate: float | str,
        gain: float,
        unit: str,
        start: float | str | None = None,
        recording: str | None = None,
        first_sample: int | None = None,
        offset: float = 0,
        **fields: Any,
    ) -> Key:
        """Send one block of integer samples; physical value = (sample - offset) / gain, in `unit`.

        `start` is the time of the first sample (seconds since 1970 or RFC 3339); without it the block is taken to end
        now. `rate` is in Hz, a number or a ratio such as "1000/3".
        """
        if start is None:
            numerator, _, denominator = str(rate).partition("/")
            start = self._clock() - len(samples) * float(denominator or 1) / float(numerator)
        block: dict[str, Any] = {
            "channel": channel,
            "start": timestamp(start) if isinstance(start, (int, float)) else start,
            "rate": rate,
            "gain": gain,
            "offset": offset,
            "unit": unit,
            "samples": list(samples),
            **fields,
        }
        if recording is not None:
            block["recording"] = recording
        if first_sample is not None:
            block["first_sample"] = first_sample
        return self.send("waveforms", {"waveforms": [block]})

    def send_status(self, state: str = "online", **fields: Any) -> Key:
        """Send a status message (battery, firmware, …) that is numbered and receipted like a measurement."""
        return self.send("status", {"state": state, "time": timestamp(self._clock()), **self._identity.about, **fields})

    def declare_lost(self, key: Key) -> bool:
        """Give a message up for good and say so; False when it is not in the outbox.

        A status that names the number as lost is sent until a receipt covers it, so that the server does not wait.
        """
        return self._courier.declare_lost(key)

    def send(self, leaf: str, document: Mapping[str, Any]) -> Key:
        """Send a document of your own making to `v1/devices/{device}/{leaf}`, without epoch, seq and sent_at."""
        body = self._encode(document)
        size = len(message(body, self.outbox.epoch, 2**31, 0.0))
        if size > self._max_message_bytes:
            raise DeviceError(
                f"a message of {size} bytes is larger than {self._max_message_bytes} (max_message_bytes): send fewer "
                "readings or shorter blocks at once"
            )
        try:
            return self._courier.add(leaf, body)
        except CourierClosed as error:
            raise DeviceError(str(error)) from error

    # --- asking -----------------------------------------------------------------------------------------------------

    def pending(self) -> int:
        """Messages without a receipt."""
        return len(self.outbox)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._courier.connected

    @property
    def clock_estimate(self) -> ClockEstimate | None:
        """How far the device's clock is off, from the server's answers to its status messages; None as yet unknown.

        It is for the device to decide what to do with it. Times that it sends are taken as its clock's: the server
        corrects them by the `sent_at` of each message.
        """
        return self._clock_estimate

    def wait_until_kept(self, timeout_s: float) -> bool:
        """Wait until every message has its receipt; False when the time ran out."""
        return self._courier.wait_until_empty(timeout_s)

    def close(self) -> None:
        """Disconnect and close the outbox; what has no receipt stays in it for the next time."""
        if self._courier.close():
            self.outbox.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the courier's calls, on the network thread -----------------------------------------------------------------

    def _receipted(self, receipt: Receipt, rejected: list[Rejected]) -> None:
        for item in rejected:
            self._tell(self._on_rejected, item)
        self._tell(self._on_receipt, receipt)

    def _told(self, payload: bytes) -> None:
        """A message of the `down` topic."""
        now = self._clock()
        self._tell(self._on_down, payload)
        try:
            told = read_down(payload)
        except DownError as error:  # an operator may send what is not ours to understand
            log.info("a message was not understood", extra={"device": self.device_id, "detail": str(error)})
            return
        if isinstance(told, TimeAnswer):
            self._clock_estimate = self._clock_filter.answer(told, now)
        elif told is not None:
            self._tell(self._on_settings, told)

    def _tell(self, callback: Callable[[Any], None] | None, what: Any) -> None:
        """Call the owner's function; its fault must not end the connection."""
        if callback is not None:
            try:
                callback(what)
            except Exception:
                log.exception("a callback of the device's owner failed", extra={"device": self.device_id})
