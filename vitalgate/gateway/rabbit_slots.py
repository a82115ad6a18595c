"""How several gateways share the messages of RabbitMQ, which knows no shared subscriptions.

Each gateway has a durable queue: that of its MQTT session. All are tied to one exchange that gives each message to
exactly one of them, by a hash of its routing key (`x-consistent-hash`, a plugin that comes with RabbitMQ), and that
exchange is tied to what devices publish. So one device's readings go to one gateway, in their order, and what is sent
while a gateway is away waits in its queue. Ties are made over the HTTP API, by the gateway's own user.
"""

from __future__ import annotations

from vitalgate.config.rabbit_definitions import GATEWAYS, OWN, TOPIC_EXCHANGE, routing_key
from vitalgate.config.settings import MqttSettings
from vitalgate.config.topics import MQTT_DEVICES, MQTT_KINDS
from vitalgate.gateway.access import AccessError
from vitalgate.gateway.link import LinkDown
from vitalgate.gateway.rabbit_api import RabbitApi
from vitalgate.gateway.rabbit_rights import session_queue

_TIMEOUT_S = 5.0
#: Points of a gateway on the ring of hashes: all get the same share.
_WEIGHT = "10"


class Slots:
    """One gateway's place among all of a deployment."""

    def __init__(self, mqtt: MqttSettings, password: str, client_id: str) -> None:
        self._mqtt, self._password = mqtt, password
        self._queue = session_queue(client_id)
        self._exchange = f"{OWN}gateways.{mqtt.share_group}"
        #: What the gateway subscribes to, so that it has a session; nobody publishes there.
        self.filter = f"{GATEWAYS}/{client_id}"

    def join(self) -> None:
        """Take a share from now on; the gateway must have subscribed to `filter`.

        Raises
        ------
        LinkDown
            When the API cannot be reached or refuses; the gateway tries again.
        """
        vhost = self._mqtt.vhost
        with self._api() as api:
            api.call("PUT", "exchanges", vhost, self._exchange, body={"type": "x-consistent-hash", "durable": True})
            for leaf in MQTT_KINDS:
                key = {"routing_key": routing_key(f"{MQTT_DEVICES}/+/{leaf}")}
                api.call("POST", "bindings", vhost, "e", TOPIC_EXCHANGE, "e", self._exchange, body=key)
            api.call("POST", "bindings", vhost, "e", self._exchange, "q", self._queue, body={"routing_key": _WEIGHT})

    def leave(self) -> None:
        """Take no more; what the queue holds stays. Raises as `join`."""
        with self._api() as api:
            api.call("DELETE", "bindings", self._mqtt.vhost, "e", self._exchange, "q", self._queue, _WEIGHT)

    def _api(self) -> _Open:
        return _Open(self._mqtt, self._password)


class _Open:
    """The API for a moment; what it refuses is a fault of the connection."""

    def __init__(self, mqtt: MqttSettings, password: str) -> None:
        self._mqtt, self._password = mqtt, password

    def __enter__(self) -> RabbitApi:
        try:
            self._api = RabbitApi(self._mqtt, self._mqtt.username, self._password, timeout_s=_TIMEOUT_S)
        except AccessError as error:
            raise LinkDown(str(error)) from error
        return self._api

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        self._api.close()
        if isinstance(error, AccessError):
            raise LinkDown(str(error)) from error
