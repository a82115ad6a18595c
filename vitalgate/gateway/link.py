"""One MQTT connection by paho-mqtt, driven by the thread that uses it. A new connection is a new object.

paho can run a thread of its own; here its read, write and keep-alive steps are called by our thread, which waits for
the socket. So a message, what is done with it and its acknowledgement happen in one thread, without locks between
them, and an acknowledgement can only go to the connection that its message came on: packet identifiers are used
again after a reconnect (``docs/decisions/0008-mqtt-by-paho.md``).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from vitalgate.gateway.address import Address
from vitalgate.gateway.rabbit_rights import encoded

#: The largest packet that we let the broker send us (MQTT 5); paho holds a packet whole. A broker with a larger limit
#: of its own would drop what lies between.
LARGEST_PACKET = 16 * 1024 * 1024
#: Messages read at most before the caller has its turn.
READ_MOST = 500
_WRONG_VERSION = 0x84
_GOODBYE_S = 1.0
_NOBODYS = "vitalgate/nothing"

OnMessage = Callable[[mqtt.MQTTMessage], None]
OnPublished = Callable[[int, ReasonCode], None]


class LinkDown(Exception):
    """The connection is gone or was refused; the text says why."""


class _WrongVersion(LinkDown):
    """The broker does not speak this version of MQTT."""


def open_link(
    address: Address,
    *,
    on_message: OnMessage | None = None,
    on_published: OnPublished | None = None,
    manual_ack: bool = False,
    timeout_s: float = 5.0,
) -> Link:
    """Connect in MQTT 5, and in 3.1.1 where the broker or the address says so. Parameters as of `Link`."""
    if address.version == 5:
        with contextlib.suppress(_WrongVersion):
            return Link(address, 5, on_message, on_published, manual_ack, timeout_s)
    return Link(address, 4, on_message, on_published, manual_ack, timeout_s)


class Link:
    """An open connection. Everything but `wake` is for one thread; callbacks run in its `step`.

    Parameters
    ----------
    version
        5, or 4 for MQTT 3.1.1. In 3.1.1 session expiry, receive maximum and the wishes of `subscribe` have no
        counterpart.
    on_message
        Called with each message that arrives.
    on_published
        Called with the packet identifier and the reason code of each PUBACK.
    manual_ack
        Messages are acknowledged by `acknowledge`, not by themselves.
    timeout_s
        For the connection and the broker's answer, each.

    Attributes
    ----------
    session_present
        Whether the broker still had our session.
    receive_maximum
        How many QoS 1 messages it takes unacknowledged from us.
    largest_packet
        The broker's own limit in bytes; None when it does not tell.
    subscribed
        Whether the broker has answered the last `subscribe` or `unsubscribe`.
    refused
        The filters of it that the broker refused.

    Raises
    ------
    LinkDown
        From every method once the connection is unusable.
    """

    def __init__(
        self,
        address: Address,
        version: int = 5,
        on_message: OnMessage | None = None,
        on_published: OnPublished | None = None,
        manual_ack: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        self.version = version
        self.session_present = self.subscribed = False
        self.receive_maximum = 65_535
        self.largest_packet: int | None = None
        self.refused: list[str] = []
        self.opened = time.monotonic()
        self._address = address
        self._on_message, self._on_published = on_message, on_published
        self._arrivals = 0
        self._accepted: bool | None = None
        self._closed, self._why = False, ""
        self._asked: tuple[int | None, list[str]] = None, []
        self._said = self._tended = self.opened
        self._woken = False
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._client = self._new_client(manual_ack, timeout_s)
        try:
            self._connect(timeout_s)
        except BaseException:
            self.close()
            raise

    # --- connecting -------------------------------------------------------------------------------------------------

    def _new_client(self, manual_ack: bool, timeout_s: float) -> mqtt.Client:
        address, v5 = self._address, self.version == 5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=address.client_id,
            protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
            clean_session=None if v5 else address.clean,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        client.connect_timeout = timeout_s
        if address.username:
            client.username_pw_set(address.username, address.password)
        if address.tls is not None:
            client.tls_set_context(address.tls)
        # What is in flight is bounded by who publishes; with a bound of its own paho walks all of it at each PUBACK.
        client.max_inflight_messages_set(0)
        client.on_connect = self._answered
        client.on_disconnect = self._ended
        client.on_message = self._message
        client.on_publish = self._published
        client.on_subscribe = self._subscribed
        client.on_unsubscribe = self._subscribed
        # With somebody who is told of it, paho writes when `step` says so and not at each call.
        client.on_socket_register_write = lambda *_: None
        return client

    def _connect(self, timeout_s: float) -> None:
        address, where = self._address, f"{self._address.host}:{self._address.port}"
        properties = None
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's is not annotated
            properties.SessionExpiryInterval = address.session_expiry_s
            properties.ReceiveMaximum = address.receive_maximum
            properties.MaximumPacketSize = LARGEST_PACKET
        clean = address.clean if self.version == 5 else mqtt.MQTT_CLEAN_START_FIRST_ONLY
        try:
            self._client.connect(
                address.host, address.port, address.keepalive_s, clean_start=clean, properties=properties
            )
            sock = self._socket()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError) as error:
            raise LinkDown(f"cannot reach the broker at {where}: {error}") from error
        self._poll.register(sock, select.POLLIN)
        until = time.monotonic() + timeout_s
        while self._accepted is None:
            left = until - time.monotonic()
            if left <= 0:
                raise LinkDown(f"the broker at {where} did not answer in {timeout_s:g} s")
            self.step(left, most=1)

    def _answered(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._accepted = not reason.is_failure
        if reason.is_failure:
            where = f"{self._address.host}:{self._address.port}"
            if reason.value == _WRONG_VERSION:
                raise _WrongVersion(f"the broker at {where} does not speak MQTT version level {self.version}")
            raise LinkDown(
                f"the broker at {where} refused user {self._address.username!r} ({reason}): check the user name, its "
                "password file and the broker's access rules"
            )
        self.session_present = bool(flags.session_present)
        self.receive_maximum = getattr(properties, "ReceiveMaximum", 65_535)
        self.largest_packet = getattr(properties, "MaximumPacketSize", None)

    def _ended(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        by = "the broker ended the connection" if flags.is_disconnect_packet_from_server else "connection lost"
        self._why = self._why or f"{by} ({reason})"

    def _socket(self) -> Any:
        sock = self._client.socket()
        if self._closed or sock is None:
            raise LinkDown(self._why or "the connection is closed")
        return sock

    # --- one round --------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let a waiting `step` return; any thread may call it."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):
                self._ringer.send(b"\0")

    def step(self, timeout_s: float, *, most: int = READ_MOST, go_on: Callable[[], bool] | None = None) -> int:
        """Wait for the broker or for `wake`, read, write, keep the connection alive; how many messages came.

        Reading ends after `most` messages, or when `go_on` (asked after each) says False.
        """
        sock = self._socket()
        waiting = self._client.want_write() and not self._write()
        self._poll.modify(sock, select.POLLIN | select.POLLOUT if waiting else select.POLLIN)
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            timeout_s = 0.0
        ready = dict(self._poll.poll(max(0.0, timeout_s) * 1000))
        if self._bell.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(64)
            self._woken = False
        came = self._arrivals
        if ready.get(sock.fileno(), 0) & ~select.POLLOUT or isinstance(sock, ssl.SSLSocket):
            self._read(came + most, go_on)
        self._write()
        now = time.monotonic()
        if now - self._tended > 0.2:
            self._tended = now
            self._client.loop_misc()
        self._socket()
        return self._arrivals - came

    def _read(self, until: int, go_on: Callable[[], bool] | None) -> None:
        """Packet by packet, for as long as messages come; what else there is comes in the next round."""
        read = self._client.loop_read
        try:
            while True:
                before = self._arrivals
                read()
                if self._arrivals == before or self._arrivals >= until or (go_on is not None and not go_on()):
                    return
        except MQTTException as error:
            raise LinkDown(f"the broker sent bytes that are not MQTT: {error!r}") from error

    def _write(self) -> bool:
        """Whether all that there is has been written."""
        if self._client.want_write():
            self._client.loop_write()
            self._said = time.monotonic()
        return not self._client.want_write()

    def hold(self) -> None:
        """In place of `step` while nothing may be read: write what there is, and keep the connection.

        paho's own ping would be in vain, for the answer to it is not read. An UNSUBSCRIBE from what nobody has
        subscribed to is a sign of life as well.
        """
        self._socket()
        if time.monotonic() - self._said > self._client.keepalive / 2:
            self._client.unsubscribe(_NOBODYS)
        self._write()
        self._socket()

    # --- sending ----------------------------------------------------------------------------------------------------

    def acknowledge(self, mids: Sequence[int]) -> None:
        """PUBACK these messages of this connection, in this order; written together where the system allows it."""
        client, sock = self._client, self._socket()
        cork = getattr(socket, "TCP_CORK", None) if len(mids) > 1 else None
        if cork is not None:
            sock.setsockopt(socket.IPPROTO_TCP, cork, 1)
        for mid in mids:
            client.ack(mid, 1)
        self._write()
        if cork is not None and client.socket() is not None:
            sock.setsockopt(socket.IPPROTO_TCP, cork, 0)
        self._socket()

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, correlation: bytes = b""
    ) -> int:
        """Hand over a message (written by the next `step`); its packet identifier.

        Correlation data is left out in 3.1.1, which has none.
        """
        self._socket()
        properties = None
        if correlation and self.version == 5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # as above
            properties.CorrelationData = correlation
        topic = self._name(topic)
        return self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties).mid

    def subscribe(self, filters: Sequence[str], *, qos: int = 1, live: bool = False, no_local: bool = False) -> None:
        """Ask for topics; `subscribed` and `refused` tell the answer.

        Two wishes that only MQTT 5 knows: `live` keeps the retain flag as published and wants no retained messages
        from before (Mosquitto 2.0 sends them to shared subscriptions too, against the standard); `no_local` spares us
        our own messages, which a shared subscription may not ask for.
        """
        self._socket()
        self.subscribed = False
        filters = [self._name(name) for name in filters]
        if self.version == 5:
            handling = SubscribeOptions.RETAIN_DO_NOT_SEND if live else SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
            options = SubscribeOptions(qos, noLocal=no_local, retainAsPublished=live, retainHandling=handling)
            _, mid = self._client.subscribe([(name, options) for name in filters])
        else:
            _, mid = self._client.subscribe([(name, qos) for name in filters])
        self._asked = mid, filters

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Ask for topics no more; `subscribed` tells of the answer."""
        self._socket()
        self.subscribed = False
        filters = [self._name(name) for name in filters]
        _, mid = self._client.unsubscribe(filters)
        self._asked = mid, filters

    def _name(self, topic: str) -> str:
        return encoded(topic) if self._address.routing_keys else topic

    def goodbye(self, *, session_expiry_s: int | None = None) -> None:
        """Have the broker take what is left, DISCONNECT and close; never raises.

        In MQTT 5 the session may be given another life. What still arrives is passed over, unacknowledged where
        `manual_ack` is set. Closing with unread bytes resets the connection, and what was written last might be lost
        with it: so the broker has to answer once more first.
        """
        properties = None
        if self.version == 5 and session_expiry_s is not None:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]  # as above
            properties.SessionExpiryInterval = session_expiry_s
        until = time.monotonic() + _GOODBYE_S
        self._on_message = None
        with contextlib.suppress(LinkDown, OSError, ValueError):
            self.unsubscribe([_NOBODYS])
            while not self.subscribed and time.monotonic() < until:
                self.step(0.1)
            self._client.disconnect(properties=properties)
            while not self._write() and time.monotonic() < until:
                select.select([], [self._socket()], [], 0.1)
        self.close()

    def close(self) -> None:
        """Close without a word to the broker (it publishes the last will, keeps a persistent session)."""
        self._closed = True
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._bell.close()
        self._ringer.close()

    # --- paho's calls -----------------------------------------------------------------------------------------------

    def _message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._arrivals += 1
        if self._on_message is not None:
            self._on_message(message)

    def _published(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        if self._on_published is not None:
            self._on_published(mid, reason)

    def _subscribed(self, _client: Any, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        asked, filters = self._asked
        if mid == asked:
            self.refused = [name for name, reason in zip(filters, reasons, strict=False) if reason.is_failure]
            self.subscribed = True
