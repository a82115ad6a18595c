"""One device's MQTT connection on an asyncio loop: paho does the protocol, the loop watches thousands of sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

KEEPALIVE_S = 30


class Connection:
    """Connects, publishes at QoS 1 and hands over what comes in; says when the connection has gone.

    Parameters
    ----------
    on_message
        Called with topic and payload, on the loop.
    on_change
        Called with True when subscribed and usable, False when the connection has gone.
    on_puback
        Called with the packet id of each publish that the broker acknowledged.
    """

    def __init__(
        self,
        host: str,
        port: int,
        device: str,
        password: str,
        *,
        client_id: str | None = None,
        version: int = 4,
        topics: tuple[str, ...] = (),
        on_message: Callable[[str, bytes], None],
        on_change: Callable[[bool], None],
        on_puback: Callable[[int], None] | None = None,
        will: tuple[str, bytes] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.device = device
        self._address = (host, port)
        self._topics = topics
        self._on_message = on_message
        self._on_change = on_change
        self._on_puback = on_puback
        self._loop = asyncio.get_running_loop()
        self._misc: asyncio.TimerHandle | None = None
        self._sock: socket.socket | None = None
        self._open = False
        self.connected = False
        self.refused = ""
        """What the broker said when it refused the connection, else empty."""
        self.unacked = 0
        """Publishes that the broker has not acknowledged."""
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"{device}:sim",
            protocol=mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        client.username_pw_set(device, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.max_inflight_messages_set(0)
        client.suppress_exceptions = False
        if will is not None:
            client.will_set(will[0], will[1], qos=1)
        client.on_socket_open = self._opened
        client.on_socket_close = self._closed
        client.on_socket_register_write = self._want_write
        client.on_socket_unregister_write = self._want_no_write
        client.on_connect = self._accepted
        client.on_disconnect = self._gone
        client.on_publish = self._acknowledged
        client.on_message = lambda _client, _data, message: self._on_message(message.topic, bytes(message.payload))

    def open(self) -> None:
        """Start to connect; `on_change` tells the outcome. Raises OSError when the broker cannot be reached."""
        self.refused = ""
        self._client.connect(*self._address, keepalive=KEEPALIVE_S)
        self._open = True

    def publish(self, topic: str, payload: bytes) -> int | None:
        """Hand a message to the broker at QoS 1; its packet id, or None when there is no connection."""
        if not self.connected:
            return None
        info = self._client.publish(topic, payload, qos=1)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            return None
        self.unacked += 1
        return info.mid

    def close(self) -> None:
        """Say goodbye and close; `on_change` is not called for it."""
        self._open = self.connected = False
        if self._misc is not None:
            self._misc.cancel()
        self._client.disconnect()
        self._client.loop_misc()

    def cut(self) -> None:
        """Drop the connection as a dead radio does: no goodbye, and the broker sends the last will."""
        sock = self._sock
        if sock is not None:
            # Closing with a reset: what was not sent is not sent.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            self._client._sock_close()
        self._went()

    # --- paho's calls -----------------------------------------------------------------------------------------------

    def _opened(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:
        self._sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._read)
        self._tick()

    def _closed(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._sock = None

    def _want_write(self, client: mqtt.Client, _data: Any, sock: Any) -> None:
        self._loop.add_writer(sock, client.loop_write)

    def _want_no_write(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    def _read(self) -> None:
        self._client.loop_read()

    def _tick(self) -> None:
        self._misc = self._loop.call_later(5.0, self._tick)
        if self._client.loop_misc() != mqtt.MQTT_ERR_SUCCESS:
            self._went()

    def _accepted(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.refused = str(reason)
            return
        for topic in self._topics:
            client.subscribe(topic, qos=1)
        self.connected = True
        self._on_change(True)

    def _gone(self, *_args: Any) -> None:
        self._went()

    def _went(self) -> None:
        if self._misc is not None:
            self._misc.cancel()
            self._misc = None
        self.connected = False
        self.unacked = 0
        if self._open:
            self._open = False
            self._on_change(False)

    def _acknowledged(self, _client: mqtt.Client, _data: Any, mid: int, *_rest: Any) -> None:
        self.unacked = max(0, self.unacked - 1)
        if self._on_puback is not None:
            self._on_puback(mid)
