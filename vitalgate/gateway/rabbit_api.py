"""RabbitMQ's HTTP API (its management plugin), as far as we need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from vitalgate.config.rabbit_definitions import TOPIC_EXCHANGE
from vitalgate.config.settings import MqttSettings
from vitalgate.config.transport import context
from vitalgate.gateway.access import AccessError
from vitalgate.gateway.link import LinkDown

_TIMEOUT_S = 10.0
_GONE = 404


class RabbitApi:
    """One user's way to the API.

    Every method raises `LinkDown` when RabbitMQ cannot be reached, and `AccessError` when it refuses.
    """

    def __init__(self, mqtt: MqttSettings, username: str, password: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.url = mqtt.api_url.rstrip("/")
        self.vhost = mqtt.vhost
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise AccessError(
                f"mqtt.api_url is {mqtt.api_url!r}: give the address of RabbitMQ's HTTP API, such as "
                "http://127.0.0.1:15672 (its management plugin must be enabled)"
            )
        self._username = username
        self._client = httpx.Client(
            base_url=f"{self.url}/api",
            auth=(username, password),
            timeout=timeout_s,
            verify=context(mqtt, "mqtt") or True,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(self, method: str, *path: str, body: Any = None, params: Mapping[str, str] | None = None) -> Any:
        """Ask; the answer's document, None when it is empty or when what is asked for is not there (404)."""
        place = "/" + "/".join(quote(part, safe="") for part in path)
        try:
            answer = self._client.request(method, place, json=body, params=params)
        except httpx.TransportError as error:
            raise LinkDown(
                f"cannot reach RabbitMQ's API at {self.url}: {str(error) or type(error).__name__}"
            ) from error
        if answer.status_code == _GONE:
            return None
        if answer.status_code == 401:
            raise AccessError(
                f"RabbitMQ's API at {self.url} refused user {self._username!r}: check the user's password file, and "
                "that the user has the tag `administrator` (the gateway's: `management`)"
            )
        if answer.status_code >= 500:
            raise LinkDown(f"RabbitMQ's API at {self.url} answers {answer.status_code}: is the broker still starting?")
        if answer.is_error:
            raise AccessError(f"RabbitMQ refuses {method} {place}: {_reason(answer)}")
        return answer.json() if answer.content else None

    # --- users ------------------------------------------------------------------------------------------------------

    def users(self) -> dict[str, dict[str, Any]]:
        """Every user by name: password_hash, tags."""
        return {user["name"]: user for user in self.call("GET", "users") or ()}

    def permissions(self) -> dict[str, dict[str, Any]]:
        """Every user's permission in our virtual host."""
        return {one["user"]: one for one in self.call("GET", "vhosts", self.vhost, "permissions") or ()}

    def topic_permissions(self) -> dict[str, dict[str, Any]]:
        """Every user's topic permission on the MQTT plugin's exchange."""
        found = self.call("GET", "vhosts", self.vhost, "topic-permissions") or ()
        return {one["user"]: one for one in found if one["exchange"] == TOPIC_EXCHANGE}

    def define(self, **definitions: Sequence[Mapping[str, Any]]) -> None:
        """Make or change many things at once, by the kind they have in RabbitMQ's definitions."""
        self.call("POST", "definitions", body=definitions)

    def delete_user(self, name: str) -> bool:
        """Remove a user, which cuts their connections; False when there was none."""
        there = self.call("GET", "users", name) is not None
        self.call("DELETE", "users", name)
        return there

    def cut(self, name: str) -> None:
        """Close a user's connections."""
        self.call("DELETE", "connections", "username", name)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def queues(self, *columns: str) -> list[dict[str, Any]]:
        """Every queue of our virtual host, with these columns."""
        found = self.call("GET", "queues", self.vhost, params={"columns": ",".join(("name", *columns))})
        return list(found or ())

    def delete_queue(self, name: str) -> None:
        """Remove a session, with what it holds."""
        self.call("DELETE", "queues", self.vhost, name)

    def subscriptions(self) -> list[dict[str, Any]]:
        """Every binding to the MQTT plugin's exchange: destination, routing_key, properties_key."""
        found = self.call("GET", "exchanges", self.vhost, TOPIC_EXCHANGE, "bindings", "source")
        return [one for one in found or () if one["destination_type"] == "queue"]

    def unsubscribe(self, bindings: Iterable[Mapping[str, Any]]) -> None:
        """Remove bindings, as `subscriptions` tells them."""
        for one in bindings:
            place = ("bindings", self.vhost, "e", TOPIC_EXCHANGE, "q", one["destination"], one["properties_key"])
            self.call("DELETE", *place)


def _reason(answer: httpx.Response) -> str:
    try:
        said = answer.json()
        return str(said.get("reason") or said)[:300]
    except (ValueError, AttributeError):
        return f"status {answer.status_code}"
