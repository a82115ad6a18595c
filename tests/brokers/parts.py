"""A broker of either kind, with the users that a test needs and clients that are not ours."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from vitalgate.config import topics
from vitalgate.config.loading import load, read_secret
from vitalgate.config.settings import Settings
from vitalgate.gateway.access import Access, Credential, open_access
from vitalgate.gateway.address import Address, manner, service_client_id
from vitalgate.gateway.link import Link, open_link
from vitalgate.gateway.rabbit_slots import Slots
from vitalgate.local.stack import Stack

_numbers = itertools.count(1)


def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


class Client:
    """An MQTT client by paho, as a device or a screen might be."""

    def __init__(
        self, settings: Settings, user: str, password: str, client_id: str, *, version: int = 4, clean: bool = True,
        will: tuple[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.user = user
        self.got: list[mqtt.MQTTMessage] = []
        self.acked: set[int] = set()
        self.answer: Any = None
        self.session_present = False
        self.gone = threading.Event()
        self._granted: dict[int, list[Any]] = {}
        five = version == 5
        self.client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
            clean_session=None if five else clean, reconnect_on_failure=False,
        )  # fmt: skip
        client.username_pw_set(user, password)
        client.max_inflight_messages_set(0)
        if will is not None:
            client.will_set(*will, qos=1)
        client.on_connect = self._connected
        client.on_disconnect = lambda *_: self.gone.set()
        client.on_message = lambda _c, _d, message: self.got.append(message)
        client.on_publish = lambda _c, _d, mid, *_: self.acked.add(mid)
        client.on_subscribe = lambda _c, _d, mid, reasons, _p: self._granted.__setitem__(mid, reasons)
        client.connect(settings.mqtt.host, settings.mqtt.port)
        client.loop_start()
        until(lambda: self.answer is not None or self.gone.is_set(), 20, "the broker's answer")

    def _connected(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self.session_present, self.answer = bool(flags.session_present), reason

    @property
    def let_in(self) -> bool:
        return self.answer is not None and not self.answer.is_failure

    def subscribe(self, *filters: str) -> bool:
        """Whether the broker granted all of them."""
        _, mid = self.client.subscribe([(name, 1) for name in filters])
        until(lambda: mid in self._granted or self.gone.is_set(), 10, "SUBACK")
        return mid in self._granted and not any(reason.is_failure for reason in self._granted[mid])

    def publish(self, topic: str, payload: str = "x", *, retain: bool = False, wait_s: float = 5.0) -> bool:
        """Whether the broker acknowledged it."""
        mid = self.client.publish(topic, payload, 1, retain).mid
        end = time.monotonic() + wait_s
        while mid not in self.acked and not self.gone.is_set() and time.monotonic() < end:
            time.sleep(0.005)
        return mid in self.acked

    def payloads(self) -> list[str]:
        """What has come, in order."""
        return [message.payload.decode() for message in list(self.got)]

    def cut(self) -> None:
        """As a dead radio: the broker sends the last will."""
        self.client._sock_close()
        self.client.loop_stop()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Taker:
    """What a gateway does at the broker, step by step: a persistent session, a share, acknowledgements by hand."""

    def __init__(self, broker: Broker, slot: str, group: str) -> None:
        settings = broker.settings
        mqtt_settings = settings.mqtt.model_copy(update={"share_group": group})
        client_id = service_client_id(f"vg-gateway-{slot}", broker.gateway_password)
        self.address = Address(
            settings.mqtt.host, settings.mqtt.port, client_id, settings.mqtt.username, broker.gateway_password,
            session_expiry_s=600, **manner(settings.mqtt),
        )  # fmt: skip
        self.slots = Slots(mqtt_settings, broker.gateway_password, client_id) if broker.name == "rabbitmq" else None
        share = f"$share/{group}/{topics.MQTT_DEVICES}/+"
        self.filters = [self.slots.filter] if self.slots else [f"{share}/{leaf}" for leaf in topics.MQTT_KINDS]
        self.took: list[mqtt.MQTTMessage] = []
        self.link = self._open()

    def _open(self) -> Link:
        link = open_link(self.address, on_message=self.took.append, manual_ack=True)
        link.subscribe(self.filters, live=True)
        while not link.subscribed:
            link.step(0.1)
        assert not link.refused
        if self.slots is not None:
            self.slots.join()
        return link

    def take(self, count: int, seconds: float = 20.0) -> list[str]:
        """The payloads of all that has come on this connection, once there are so many."""
        end = time.monotonic() + seconds
        while len(self.took) < count and time.monotonic() < end:
            self.link.step(0.1)
        self.link.step(0.3)  # whatever comes too much
        return [message.payload.decode() for message in self.took]

    def acknowledge(self, count: int | None = None) -> None:
        self.link.acknowledge([message.mid for message in self.took[:count]])
        self.link.step(0.05)

    def crash(self) -> None:
        self.link.close()

    def back(self) -> None:
        """Again, on a new connection."""
        self.took.clear()
        self.link = self._open()

    def end(self) -> None:
        """End the session."""
        self.link.close()
        open_link(Address(**{**vars(self.address), "clean": True, "session_expiry_s": 0})).goodbye()


class Broker:
    """A running broker."""

    def __init__(self, name: str, stack: Stack) -> None:
        self.name = name
        self.stack = stack
        self.settings: Settings = load(env={}, data=str(stack.data)).settings
        assert self.settings.mqtt.broker == name
        self.passwords: dict[str, str] = {}
        self.clients: list[Client] = []
        self._takers: list[Taker] = []

    @property
    def gateway_password(self) -> str:
        return read_secret(self.settings.mqtt.password_file, "gateway's password")

    def access(self) -> Access:
        mqtt_settings = self.settings.mqtt
        return open_access(mqtt_settings, read_secret(mqtt_settings.admin_password_file, "admin"), name="test")

    def names(self, *names: str) -> list[str]:
        """Names that no other test uses."""
        call = next(_numbers)
        return [f"{name}-{os.getpid()}x{call}" for name in names]

    def credentials(self, access: Access, names: Iterable[str]) -> list[Credential]:
        made = []
        for name in names:
            self.passwords[name] = f"pw of {name} {next(_numbers)}"
            made.append(Credential(name, self.passwords[name], access.hash_password(self.passwords[name])))
        return made

    def add(self, *names: str) -> list[str]:
        """Devices of these names, made unique."""
        full = self.names(*names)
        with self.access() as access:
            access.prepare()
            assert access.admit(self.credentials(access, full)) == []
        return full

    def add_clinician(self, name: str, teams: Iterable[str]) -> str:
        (user,) = self.names(name)
        with self.access() as access:
            assert access.admit_clinician(self.credentials(access, [user])[0], teams) == []
        return user

    def connect(self, user: str, password: str = "", *, client_id: str = "", **more: Any) -> Client:
        """A client of this user; `gateway` is the gateway's."""
        if user == "gateway":
            user, password = self.settings.mqtt.username, self.gateway_password
            client_id = client_id or f"vg-test-{next(_numbers)}"
        client = Client(
            self.settings, user, password or self.passwords[user], client_id or f"{user}:{next(_numbers)}", **more
        )
        self.clients.append(client)
        return client

    def taker(self, slot: str, group: str) -> Taker:
        taker = Taker(self, slot, group)
        self._takers.append(taker)
        return taker

    def tidy(self) -> None:
        """After a test."""
        for client in self.clients:
            client.close()
        for taker in self._takers:
            taker.end()
        self.clients.clear()
        self._takers.clear()
