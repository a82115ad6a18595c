"""Giving a command to the alert engine and waiting for its answer."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from vitalgate.alerts.commands import Command, Reply
from vitalgate.alerts.profile import first_fault
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.stream.alerting_read import NoAnswerError, Reader
from vitalgate.stream.alerting_setting import SettingError, send
from vitalgate.stream.headers import content_id


def ask(
    kafka: KafkaSettings, alert: dict[str, Any], action: str, who: str, *, wait_s: float = 10.0, **more: Any
) -> Reply:
    """Do something with an alert.

    Parameters
    ----------
    alert
        Its state: at least `alert_id` and `patient`.
    more
        until, reason, text as ``commands.Command`` has them.

    Raises
    ------
    ValueError
        When it is no valid command.
    NoAnswerError
        When Kafka or the alerting worker does not answer in time.
    """
    try:
        command = Command.model_validate(
            {
                "command_id": uuid.uuid4().hex, "alert_id": alert["alert_id"], "patient": alert["patient"], "who": who,
                "action": action, "at": datetime.now(UTC), **more,
            }
        )  # fmt: skip
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    reader = Reader(kafka, topics.ALERT_REPLIES, from_end=True)
    try:
        value = command.model_dump_json().encode()
        try:
            send(kafka, topics.ALERT_COMMANDS, command.patient, value, content_id("command", command.command_id))
        except SettingError as error:
            raise NoAnswerError(str(error)) from error
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            for _, raw in reader.poll(0.2):
                document = orjson.loads(raw or b"null")
                if document and document.get("command_id") == command.command_id:
                    return Reply.model_validate(document)
    finally:
        reader.close()
    raise NoAnswerError(
        f"no answer within {wait_s:g} s; is the alerting worker running? The command stands and will be obeyed"
    )
