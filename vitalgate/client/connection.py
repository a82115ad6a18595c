"""One connection of a device to the broker: its last will, what it listens to, its birth and its farewell."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from vitalgate.client.protocol import timestamp

log = logging.getLogger(__name__)

KEEPALIVE_S = 30
_WRONG_VERSION = 0x84


@dataclass(frozen=True)
class Identity:
    """Where a device connects, and as whom."""

    host: str
    port: int
    device_id: str
    password: str = field(repr=False)
    client_id: str
    version: int
    """5, or 4 for MQTT 3.1.1."""
    tls: ssl.SSLContext | None
    about: Mapping[str, str]
    """What a status message says of the device: firmware, serial."""


class Connection:
    """A connection that is made once. The callbacks are called on paho's thread.

    Parameters
    ----------
    clock, encode
        The device's clock and its form of a document, for what is said at the beginning and the end.
    on_up, on_gone
        The broker has let the device in; the connection is lost, or was refused.
    on_message
        The last level of the topic (receipts or down) and the payload.

    Attributes
    ----------
    answered
        Whether the broker has said yes or no in this version of MQTT; one that does not know the version ends the
        connection (RabbitMQ 3.10) or says so.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Callable[[], float],
        encode: Callable[[Mapping[str, Any]], bytes],
        on_up: Callable[[], None],
        on_gone: Callable[[], None],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self._identity = identity
        self._clock, self._encode = clock, encode
        self._on_up, self._on_gone, self._on_message = on_up, on_gone, on_message
        self.answered = False
        version = mqtt.MQTTv5 if identity.version == 5 else mqtt.MQTTv311
        # A client for each connection: paho's own resending is not wanted, for it would send old `sent_at` again.
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=identity.client_id,
            protocol=version,
            reconnect_on_failure=False,
            clean_session=True if version == mqtt.MQTTv311 else None,
        )
        client.username_pw_set(identity.device_id, identity.password)
        if identity.tls is not None:
            client.tls_set_context(identity.tls)
        client.will_set(self._topic("status"), encode({"state": "offline"}), qos=1)
        client.on_connect = self._accepted
        client.on_disconnect = lambda *_: self._on_gone()
        client.on_message = self._arrived

    def open(self) -> None:
        """Connect and start paho's thread. Raises OSError when the broker cannot be reached."""
        self._client.connect(self._identity.host, self._identity.port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def publish(self, leaf: str, payload: bytes) -> bool:
        """Hand a message over at QoS 1; False when there is no connection."""
        return self._client.publish(self._topic(leaf), payload, qos=1).rc == mqtt.MQTT_ERR_SUCCESS

    def goodbye(self) -> None:
        """Say that the device goes offline, and disconnect."""
        self._say("offline")
        self._client.disconnect()

    def close(self) -> None:
        """Wait for paho's thread to end."""
        self._client.loop_stop()

    def _accepted(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.answered = reason.value != _WRONG_VERSION
        if reason.is_failure:
            device = self._identity.device_id
            log.error("the broker refused the device", extra={"device": device, "detail": str(reason)})
            return  # the broker closes the connection, and `on_gone` tells
        client.subscribe([(self._topic("receipts"), 1), (self._topic("down"), 1)])
        self._say("online")
        self._on_up()

    def _arrived(self, _client: mqtt.Client, _data: Any, incoming: mqtt.MQTTMessage) -> None:
        self._on_message(incoming.topic.rpartition("/")[2], bytes(incoming.payload))

    def _say(self, state: str) -> None:
        """Birth or farewell: not numbered, for only the latest matters."""
        now = timestamp(self._clock())
        self.publish("status", self._encode({"state": state, "time": now, "sent_at": now, **self._identity.about}))

    def _topic(self, leaf: str) -> str:
        return f"v1/devices/{self._identity.device_id}/{leaf}"
