"""What RabbitMQ must have before anybody connects, in the form of its definitions: the one place that knows it. Pure.

Users carry a tag: `administrator`, `management` (the gateway: it ties its queue to its exchange over the HTTP API), or
the roles of `broker_users`, by which the registry's users are told from others.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Any, NamedTuple

from vitalgate.config.settings import MqttSettings
from vitalgate.config.topics import MQTT_ALERTS, MQTT_DEVICES, MQTT_KINDS

#: The exchange that the MQTT plugin publishes to.
TOPIC_EXCHANGE = "amq.topic"
#: What exchanges of ours begin with.
OWN = "vitalgate."
#: Before the client id, in the name of its session's queue.
QUEUE = "mqtt-subscription-"
#: First level of the topics that a gateway subscribes to so that it has a queue; nobody publishes there.
GATEWAYS = "v1/gateways"
HASHING = "rabbit_password_hashing_sha512"
#: What a session holds for a client that is away, at most: then the oldest goes. (Not that of a gateway.)
SESSION_BYTES = 16 * 1024 * 1024
_SALT_BYTES = 4
_SCHEME = "$rabbitmq-sha512$"
_ALL = ".*"


class Rights(NamedTuple):
    """Regular expressions: on queues and exchanges (`configure`, `write`, `read`), and on routing keys."""

    configure: str
    write: str
    read: str
    topic_write: str
    topic_read: str


def routing_key(topic: str) -> str:
    """An MQTT topic or filter as RabbitMQ keeps it."""
    return topic.translate({ord("/"): ".", ord("+"): "*"})


def gateway_rights() -> Rights:
    """The gateway's user: sessions and exchanges of ours, what devices say, and all that is said to them."""
    devices, alerts = re.escape(routing_key(MQTT_DEVICES)), re.escape(routing_key(MQTT_ALERTS))
    gateways, leaves = re.escape(routing_key(GATEWAYS)), "|".join(MQTT_KINDS)
    own = f"^({QUEUE}.*|{re.escape(TOPIC_EXCHANGE)}|{re.escape(OWN)}.*)$"
    configure = f"^({QUEUE}.*|{re.escape(OWN)}.*)$"
    read = rf"^({devices}\.\*\.({leaves})|({alerts}|{gateways})\..*|vitalgate\.nothing)$"
    return Rights(configure, own, own, rf"^({devices}\.[^.]+\.(receipts|down)|{alerts}\..*)$", read)


# --- passwords ------------------------------------------------------------------------------------------------------


def hash_password(password: str, *, salt: bytes | None = None) -> str:
    """`$rabbitmq-sha512$…`: RabbitMQ's own form (base64 of salt and salted SHA-512), which its API takes.

    One round is enough: these passwords are random, 144 bits, so that there is nothing to guess.
    """
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    return _SCHEME + base64.b64encode(salt + hashlib.sha512(salt + password.encode()).digest()).decode()


def broker_hash(stored: str) -> str | None:
    """What RabbitMQ wants of a stored hash; None when it was made for another broker."""
    return stored.removeprefix(_SCHEME) if stored.startswith(_SCHEME) else None


def matches(password: str, stored: str) -> bool:
    """Whether a password belongs to a stored hash; no when that was made for another broker."""
    whole = broker_hash(stored)
    if whole is None:
        return False
    return secrets.compare_digest(hash_password(password, salt=base64.b64decode(whole)[:_SALT_BYTES]), stored)


# --- the document ---------------------------------------------------------------------------------------------------


def user_entry(name: str, hashed: str, tag: str) -> dict[str, str]:
    """A user; `hashed` without the scheme."""
    return {"name": name, "password_hash": hashed, "hashing_algorithm": HASHING, "tags": tag}


def permission_entry(name: str, vhost: str, rights: Rights) -> dict[str, str]:
    """A user's permission."""
    return {
        "user": name, "vhost": vhost, "configure": rights.configure, "write": rights.write, "read": rights.read,
    }  # fmt: skip


def topic_entry(name: str, vhost: str, rights: Rights) -> dict[str, str]:
    """A user's topic permission."""
    return {
        "user": name, "vhost": vhost, "exchange": TOPIC_EXCHANGE, "write": rights.topic_write,
        "read": rights.topic_read,
    }  # fmt: skip


def definitions(mqtt: MqttSettings, admin_password: str, gateway_password: str) -> dict[str, Any]:
    """The whole document: the virtual host, the two service users, and what bounds a session.

    A gateway's session that is full refuses: the device gets no acknowledgement and keeps what it has. Any other
    session that is full forgets its oldest messages, for nobody may be held up by a screen that is switched off.
    """
    vhost, rights = mqtt.vhost, gateway_rights()
    everything = Rights(_ALL, _ALL, _ALL, _ALL, _ALL)
    users = {
        mqtt.admin_username: (admin_password, "administrator", everything),
        mqtt.username: (gateway_password, "management", rights),
    }
    policies = (
        (
            "vitalgate-sessions", f"^{re.escape(QUEUE)}", 0,
            {"max-length-bytes": SESSION_BYTES, "overflow": "drop-head"},
        ),
        (
            "vitalgate-gateways", f"^{re.escape(QUEUE)}vg-(gateway|notifier)-", 10,
            {"max-length-bytes": mqtt.max_queued_bytes, "overflow": "reject-publish"},
        ),
    )  # fmt: skip
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            user_entry(name, broker_hash(hash_password(password)) or "", tag)
            for name, (password, tag, _) in users.items()
        ],
        "topic_permissions": [topic_entry(name, vhost, rights) for name, (_, _, rights) in users.items()],
        "permissions": [permission_entry(name, vhost, rights) for name, (_, _, rights) in users.items()],
        "policies": [
            {
                "vhost": vhost, "name": name, "pattern": pattern, "apply-to": "queues", "priority": priority,
                "definition": definition,
            }
            for name, pattern, priority, definition in policies
        ],
    }  # fmt: skip
