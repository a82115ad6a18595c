"""What devices and clinicians may do on RabbitMQ: permissions as regular expressions. Pure.

RabbitMQ keeps an MQTT topic as an AMQP routing key: `/` becomes `.`, `+` becomes `*`, and a `.` stays a `.`, so that
`a.b` and `a/b` are one and the same to it. Names with a dot are therefore refused as device ids and percent-encoded in
alert topics, and every permission is written for the routing key, with the user's name in it literally (what RabbitMQ
puts in place of `{username}` it does not quote).

A topic permission is asked for at SUBSCRIBE, about the filter, and never again for a message; at PUBLISH about the
topic. A session is a queue named after the client id, with bindings that outlive the connection. So a user may have
queues of their own name only: else one could take over the session of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vitalgate.config.rabbit_definitions import QUEUE, TOPIC_EXCHANGE, Rights, routing_key
from vitalgate.config.topics import MQTT_ALERTS, MQTT_DEVICES, MQTT_KINDS
from vitalgate.gateway.alert_topics import level

#: Characters of a topic that mean something else in a routing key: a dot parts levels, a star comes back as `+`.
_CODES = {".": "%2E", "*": "%2A"}
_ENCODE = {ord(sign): code for sign, code in _CODES.items()}
_NOTHING = "^$"


def encoded(topic: str) -> str:
    """A topic of ours as we publish and subscribe to it on RabbitMQ."""
    return topic.translate(_ENCODE)


def decoded(topic: str) -> str:
    """A topic as it was before `encoded`."""
    for sign, code in _CODES.items():
        topic = topic.replace(code, sign)
    return topic


def session_queue(client_id: str) -> str:
    """The queue of a client's session for QoS 1."""
    return f"{QUEUE}{client_id}qos1"


def sessions(user: str) -> re.Pattern[str]:
    """Which queues are a user's sessions: the client id is the name, or that and a colon, which no name has."""
    return re.compile(f"{QUEUE}{re.escape(user)}(:.*)?qos[01]", re.ASCII | re.DOTALL)


def _own(user: str, topic_write: str, topic_read: str) -> Rights:
    queues = sessions(user).pattern
    both = f"^({queues}|{re.escape(TOPIC_EXCHANGE)})$"
    return Rights(f"^{queues}$", both, both, topic_write, topic_read)


def device_rights(device: str) -> Rights:
    """A device speaks and hears for itself."""
    base = re.escape(routing_key(f"{MQTT_DEVICES}/{device}"))
    return _own(device, f"^{base}\\.({'|'.join(MQTT_KINDS)})$", f"^{base}\\.(receipts|down)$")


def clinician_rights(user: str, teams: Iterable[str]) -> Rights:
    """A clinician reads their teams' alerts and the answers that are theirs, and gives commands.

    `{patient}/{alert}` may be asked for with `+` on either level, but not below `replies`; `#` is refused, for what it
    would match is not looked at again.
    """
    names = "|".join(sorted(re.escape(encoded(level(team))) for team in set(teams)))
    if not names:
        return _own(user, _NOTHING, _NOTHING)
    base, me = rf"{re.escape(routing_key(MQTT_ALERTS))}\.({names})", re.escape(encoded(level(user)))
    read = "|".join(["events", "heartbeat", "open", r"(?!replies\.)[^.#]+\.[^.#]+", rf"replies\.{me}(\.[^.]+)*"])
    return _own(user, rf"^{base}\.[^.]+\.[^.]+\.commands(\.{me})?$", rf"^{base}\.({read})$")
