"""MQTT to Kafka and back: what clinicians' screens say about alerts, and the answers."""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import paho.mqtt.client as mqtt

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.gateway.address import backoff
from vitalgate.gateway.alert_commands import WHO, Answering, Taken, take
from vitalgate.gateway.alert_topics import COMMAND_FILTERS, parse_command_topic, replies_topic
from vitalgate.gateway.confirmed import ConfirmedProducer, NotDelivered, Record
from vitalgate.gateway.link import Link, LinkDown, open_link
from vitalgate.gateway.notify_follow import Follow
from vitalgate.gateway.notify_loop import Loop, address
from vitalgate.gateway.notify_teams import Teams
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: The broker keeps commands for us while we are away, so long.
_SESSION_S = 86_400
#: Commands whose way back is remembered.
_REMEMBERED = 20_000
_AT_ONCE = 200
#: One more level, where a subscription to all alerts could not be kept from matching the answers of others: RabbitMQ
#: asks for the right to a filter, not to each message.
_DEEPER = "answers"


class Answers(Follow):
    """alerting.replies to whoever gave the command: on the response topic that they asked for, else on their own."""

    def __init__(self, settings: Settings, publisher: Publisher, stop: threading.Event) -> None:
        super().__init__(settings, publisher, stop, "replies", topics.ALERT_REPLIES)
        self._ways: OrderedDict[tuple[str, str, str], Answering] = OrderedDict()
        self._ways_lock = threading.Lock()
        self._deeper = settings.mqtt.broker == "rabbitmq"

    def remember(self, document: dict[str, Any], to: Answering) -> None:
        """Before the command is given: where its answer goes."""
        with self._ways_lock:
            self._ways[document["who"], document["patient"], document["command_id"]] = to
            if len(self._ways) > _REMEMBERED:
                self._ways.popitem(last=False)

    def outgoing(self, value: bytes) -> Outgoing | None:
        """The answer; None when the command did not come by MQTT."""
        reply = orjson.loads(value)
        who = str(reply["who"])
        if not who.startswith(WHO):
            return None
        with self._ways_lock:
            to = self._ways.get((who, reply["patient"], reply["command_id"]))
        if to is not None:
            return Outgoing(self._place(to.topic), value, correlation=to.correlation)
        # We were started again in between, and know no more than what the answer says.
        own = replies_topic(reply["team"], who.removeprefix(WHO))
        return Outgoing(self._place(own), value) if reply["team"] else None

    def say(self, to: Answering, document: dict[str, Any]) -> Outgoing:
        """An answer that the alert engine has not been asked for."""
        return Outgoing(self._place(to.topic), orjson.dumps(document), correlation=to.correlation)

    def _place(self, topic: str) -> str:
        return f"{topic}/{_DEEPER}" if self._deeper else topic


class Commands(Loop):
    """`v1/alerts/{team}/{patient}/{alert}/commands` to alerting.commands; acknowledged after Kafka."""

    waits_for = "not subscribed to commands yet"

    def __init__(
        self, settings: Settings, password: str, teams: Teams, answers: Answers, publisher: Publisher,
        stop: threading.Event,
    ) -> None:  # fmt: skip
        super().__init__(settings, "commands", stop)
        self._address = replace(
            address(settings, password, "commands"), clean=False, session_expiry_s=_SESSION_S, receive_maximum=_AT_ONCE
        )
        self._teams, self._answers, self._publisher = teams, answers, publisher
        self._key = secrets.token_bytes(32)
        self._came: list[mqtt.MQTTMessage] = []

    def run(self) -> None:
        """Take commands until told to stop; faults of the broker and of Kafka are waited out."""
        while not self._teams.ready and not self.stop.wait(0.05):
            pass
        producer = ConfirmedProducer(self.kafka, f"vg-notifier-commands-{self.slot}")
        waits = backoff(0.2, 5.0)
        try:
            while not self.stop.is_set():
                self._came.clear()
                try:
                    link = open_link(self._address, on_message=self._came.append, manual_ack=True)
                except LinkDown as error:
                    log.warning("no connection to the broker", extra={"detail": str(error)})
                    self.stop.wait(next(waits))
                    continue
                try:
                    self._carry(link, producer)
                    link.goodbye(session_expiry_s=_SESSION_S)
                except (LinkDown, NotDelivered) as error:
                    # What is not acknowledged comes again with the next connection.
                    log.warning("commands have to wait", extra={"detail": str(error)})
                    link.close()
                    if time.monotonic() - link.opened > 30.0:
                        waits = backoff(0.2, 5.0)
                    self.stop.wait(next(waits))
                self.ready = False
        finally:
            producer.close()

    def _carry(self, link: Link, producer: ConfirmedProducer) -> None:
        link.subscribe(COMMAND_FILTERS, live=True)
        while not self.stop.is_set():
            link.step(0.2, most=_AT_ONCE)
            if link.subscribed and not self.ready:
                if link.refused:
                    log.error("the broker refused a subscription", extra={"filters": link.refused})
                self.ready = True
            if self._came:
                self._give(producer, [made for message in self._came for made in self._judged(message)])
                link.acknowledge([message.mid for message in self._came if message.qos])
                self._came.clear()

    def _judged(self, message: mqtt.MQTTMessage) -> list[Record | Outgoing]:
        place = parse_command_topic(message.topic)
        if place is None or not message.payload:  # an empty one takes a retained one away
            return []
        properties = message.properties
        made = take(
            place, bytes(message.payload), self._teams.of_patient(place.patient), self._key, time.time(),
            retained=message.retain, response_topic=getattr(properties, "ResponseTopic", ""),
            correlation=getattr(properties, "CorrelationData", b""),
        )  # fmt: skip
        if message.retain:
            self._publisher.publish([Outgoing(message.topic, b"", retain=True)])
        if isinstance(made, Taken):
            metrics.ALERT_COMMANDS.labels("taken").inc()
            self._answers.remember(made.document, made.to)
            identity = hashlib.sha256(f"command {made.document['command_id']}".encode()).hexdigest()[:32]
            return [Record(topics.ALERT_COMMANDS, place.patient, orjson.dumps(made.document), identity)]
        out: list[Record | Outgoing] = []
        if made.document["outcome"] == "confirm":
            metrics.ALERT_COMMANDS.labels("confirm").inc()
        else:
            metrics.ALERT_COMMANDS.labels("refused").inc()
            out.append(_refusal(made.document, place.alert))
        if made.to is not None:
            out.append(self._answers.say(made.to, made.document))
        return out

    def _give(self, producer: ConfirmedProducer, made: list[Record | Outgoing]) -> None:
        records = [one for one in made if isinstance(one, Record)]
        if records:
            producer.send(records)
        self._publisher.publish([one for one in made if isinstance(one, Outgoing)])


def _refusal(answer: dict[str, Any], alert: str) -> Record:
    """The audit event of a command that was refused here."""
    event = str(uuid.uuid4())
    body = {
        "event_id": event, "who": answer["who"] or "service:notifier", "action": "alert.command_refused",
        "entity_type": "alert", "entity_id": alert, "when": datetime.now(UTC).isoformat(timespec="microseconds"),
        "where": f"{socket.gethostname()}/notifier", "outcome": "refused",
        "detail": {name: answer[name] for name in ("patient", "team", "action", "detail", "command_id")},
    }  # fmt: skip
    return Record(topics.AUDIT_INBOX, None, orjson.dumps(body), event.replace("-", ""))
