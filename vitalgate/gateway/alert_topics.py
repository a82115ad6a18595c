"""MQTT topics of alerts: made, and taken apart. Pure.

Below `v1/alerts/{team}/`: `{patient}/{alert}` (retained), `events`, `heartbeat`, `{patient}/{alert}/commands[/{user}]`,
`replies/{user}`. A level is a name with the characters percent-encoded that a topic must not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from vitalgate.config import topics
from vitalgate.config.topics import MQTT_ALERTS

#: What the notifier subscribes to.
COMMAND_FILTERS = (f"{MQTT_ALERTS}/+/+/+/commands", f"{MQTT_ALERTS}/+/+/+/commands/+")
_COMMANDS = "commands"
_REPLIES = "replies"


def level(text: str) -> str:
    """A text as one level of an MQTT topic: `/`, `+`, `#`, `%` and control characters are percent-encoded."""
    return quote(text, safe=" !$&'()*,;:@=") or "-"


def alert_topic(alert: dict[str, Any]) -> str:
    """The retained topic of an open alert. Raises KeyError when the alert names no team, patient or id."""
    patient = level(alert["patient"])
    if patient == _REPLIES:  # a place of its own
        patient = f"%{ord(_REPLIES[0]):02X}{_REPLIES[1:]}"
    return topics.alert_topic(level(alert["team"]), patient, level(alert["alert_id"]))


def events_topic(alert: dict[str, Any]) -> str:
    """The topic of a team's alert events. Raises KeyError when the alert names no team."""
    return f"{MQTT_ALERTS}/{level(alert['team'])}/events"


def heartbeat_topic(team: str) -> str:
    """Where a team's screens hear that the system lives."""
    return f"{MQTT_ALERTS}/{level(team)}/heartbeat"


def replies_topic(team: str, user: str) -> str:
    """Where a user finds the answers to commands that they gave as one of this team."""
    return f"{MQTT_ALERTS}/{level(team)}/{_REPLIES}/{level(user)}"


def replies_user(team: str, topic: str) -> str | None:
    """The user whose replies topic, or a topic below it, this is; None when it is none of this team's."""
    parts = topic.split("/")
    if parts[:4] != [*MQTT_ALERTS.split("/"), level(team), _REPLIES] or len(parts) < 5:
        return None
    if not parts[4] or any(sign in topic for sign in "+#\0"):
        return None
    return unquote(parts[4])


class CommandTopic(NamedTuple):
    """A topic that a command came on."""

    team: str
    patient: str
    alert: str
    user: str
    """Whom the broker let publish there; '' on the topic that is everybody's of the team."""


def parse_command_topic(topic: str) -> CommandTopic | None:
    """The parts of a command's topic; None when it is none."""
    parts = topic.split("/")
    if len(parts) not in (6, 7) or "/".join(parts[:2]) != MQTT_ALERTS or parts[5] != _COMMANDS:
        return None
    team, patient, alert, user = (unquote(part) for part in (*parts[2:5], parts[6] if len(parts) == 7 else ""))
    if not (team and patient and alert) or (len(parts) == 7 and not user):
        return None
    return CommandTopic(team, patient, alert, user)


def clinician_rights(user: str, teams: Iterable[str]) -> list[dict[str, Any]]:
    """What a clinician of these teams may do, as access rules of the dynamic security plugin.

    They are given their teams' alerts, events and heartbeats, and the answers that are theirs: neither commands nor
    the answers of others. Mosquitto 2.0 grants every subscription as soon as it has an ACL file, and asks for each
    message whether it may be given: those rules count.
    """
    rules: list[dict[str, Any]] = []

    def rule(kind: str, topic: str, priority: int = 0, allow: bool = True) -> None:
        rules.append({"acltype": kind, "topic": topic, "priority": priority, "allow": allow})

    for team in sorted(set(teams)):
        base, own = f"{MQTT_ALERTS}/{level(team)}", replies_topic(team, user)
        rule("subscribePattern", f"{base}/#")
        for topic in ("+/+", "events", "heartbeat"):
            rule("publishClientReceive", f"{base}/{topic}")
        # Alerts and answers have as many levels: the answers of others are kept back, one's own are not.
        rule("publishClientReceive", f"{base}/{_REPLIES}/#", 1, allow=False)
        rule("publishClientReceive", f"{own}/#", 2)
        rule("publishClientSend", f"{base}/+/+/{_COMMANDS}")
        rule("publishClientSend", f"{base}/+/+/{_COMMANDS}/{level(user)}")
    return rules


def clinician_topics(user: str, teams: Iterable[str]) -> dict[str, list[str]]:
    """The same for people: topics that a clinician may read, and those that they may publish to."""
    allowed = [rule for rule in clinician_rights(user, teams) if rule["allow"]]
    return {
        "read": [rule["topic"] for rule in allowed if rule["acltype"] == "publishClientReceive"],
        "write": [rule["topic"] for rule in allowed if rule["acltype"] == "publishClientSend"],
    }
