"""Setting what alerting reads from compacted topics: patients' overrides, cohorts, rosters. Every change is audited."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from confluent_kafka import Producer
from pydantic import BaseModel, ValidationError

from vitalgate.alerts.compiling import Zones
from vitalgate.alerts.machine import NEVER
from vitalgate.alerts.profile import cohorts_of, first_fault
from vitalgate.alerts.roster import Cohort, Roster
from vitalgate.config.settings import KafkaSettings, Settings
from vitalgate.config.topics import REGISTRY_COHORTS, REGISTRY_ROSTERS, Topic, full
from vitalgate.storage.errors import StorageError
from vitalgate.storage.registry import Registry
from vitalgate.storage.registry_user import user
from vitalgate.stream.alerting_read import NoAnswerError, newest
from vitalgate.stream.audit_inbox import AuditEvent, tell_audit
from vitalgate.stream.errors import NotDeliveredError
from vitalgate.stream.headers import content_id, headers
from vitalgate.stream.producer import configuration

Change = Callable[[dict[str, Any]], dict[str, Any]]
M = TypeVar("M", bound=BaseModel)


class SettingError(Exception):
    """It was not set; the text says why, and the remedy."""


def own_of(settings: Settings, patient: str) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]], Zones]:
    """A patient's overrides, those of their cohorts, and their time zones.

    Raises
    ------
    SettingError
        When there is no such patient, or the database or Kafka does not answer.
    """
    found = _patient(settings, patient)
    own = dict(found.overrides)
    names = cohorts_of(own)
    known = {cohort.cohort: cohort for cohort in cohorts(settings.kafka)} if names else {}
    limits = [(name, dict(known[name].overrides)) for name in names if name in known]
    zones = tuple((NEVER if since is None else round(since.timestamp() * 1e6), zone) for since, zone in found.zones)
    return own, limits, zones


def change_patient(settings: Settings, patient: str, change: Change, about: str) -> bool:
    """Change a patient's overrides; says whether the registrar has sent them on.

    Raises
    ------
    SettingError
        When there is no such patient, or it cannot be written.
    """
    before = dict(_patient(settings, patient).overrides)
    after = change(before)
    _audit(settings.kafka, "rule.override", ("patient", patient), {"about": about, "now": after.get(about)})
    try:
        with Registry(settings.database) as registry:
            done = registry.set_patient(patient, overrides=after)
            return registry.wait_applied(done.outbox, 5.0)
    except StorageError as error:
        raise SettingError(str(error)) from error


def change_cohort(settings: Settings, cohort: str, change: Change, about: str) -> bool:
    """Change a cohort's limits, a new cohort's too.

    Raises
    ------
    SettingError
        When Kafka does not take it.
    """
    there = {one.cohort: one for one in cohorts(settings.kafka)}.get(cohort)
    after = change(dict(there.overrides) if there else {})
    made = _made(Cohort, {"cohort": cohort, "overrides": after, **_stamp()})
    _audit(settings.kafka, "rule.override", ("cohort", cohort), {"about": about, "now": after.get(about)})
    _write(settings.kafka, REGISTRY_COHORTS, cohort, made)
    return True


def cohorts(kafka: KafkaSettings) -> list[Cohort]:
    """All cohorts. Raises SettingError when Kafka does not answer."""
    return [Cohort.model_validate(value) for value in _all(kafka, REGISTRY_COHORTS)]


def rosters(kafka: KafkaSettings) -> list[Roster]:
    """All rosters. Raises SettingError when Kafka does not answer."""
    return [Roster.model_validate(value) for value in _all(kafka, REGISTRY_ROSTERS)]


def set_roster(kafka: KafkaSettings, document: dict[str, Any]) -> Roster:
    """Check a roster and put it in force.

    Raises
    ------
    SettingError
        When it cannot work, or Kafka does not take it.
    """
    roster = _made(Roster, document | _stamp())
    _audit(kafka, "roster.set", ("team", roster.team), {"members": list(roster.members)})
    _write(kafka, REGISTRY_ROSTERS, roster.team, roster)
    return roster


def remove_roster(kafka: KafkaSettings, team: str) -> None:
    """Take a team's roster away: its alerts do not escalate any more. Raises SettingError."""
    _audit(kafka, "roster.removed", ("team", team), {})
    _write(kafka, REGISTRY_ROSTERS, team, None)


def _patient(settings: Settings, patient: str) -> Any:
    try:
        with Registry(settings.database) as registry:
            found = registry.patients(patient)
    except StorageError as error:
        raise SettingError(str(error)) from error
    if not found:
        raise SettingError(f"no patient {patient!r}; `vitalgate patient list` shows those there are")
    return found[0]


def _stamp() -> dict[str, Any]:
    return {"author": user(), "at": datetime.now(UTC).isoformat(), "change": time.time_ns() // 1000}


def _made(model: type[M], document: dict[str, Any]) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SettingError(first_fault(error)) from error


def _all(kafka: KafkaSettings, topic: Topic) -> list[dict[str, Any]]:
    try:
        return [orjson.loads(value) for value in newest(kafka, topic).values()]
    except NoAnswerError as error:
        raise SettingError(str(error)) from error


def _audit(kafka: KafkaSettings, action: str, entity: tuple[str, str], detail: dict[str, Any]) -> None:
    identity = f"{datetime.now(UTC).isoformat()}"
    try:
        tell_audit(kafka, AuditEvent(action, *entity, identity, detail), "rules")
    except NotDeliveredError as error:
        raise SettingError(f"nothing was changed: {error}") from error


def _write(kafka: KafkaSettings, topic: Topic, key: str, document: BaseModel | None) -> None:
    value = None if document is None else document.model_dump_json(by_alias=True).encode()
    send(kafka, topic, key, value, content_id(topic.name, key, value or b""))


def send(kafka: KafkaSettings, topic: Topic, key: str, value: bytes | None, identity: str) -> None:
    """Write one record and wait until Kafka has it. Raises SettingError."""
    failed: list[str] = []
    producer = Producer(
        configuration(kafka, "vitalgate-command")
        | {"message.timeout.ms": 5000, "log_level": 0, "error_cb": lambda _: None}
    )
    producer.produce(
        full(topic, kafka), value, key, headers=dict(headers(topic, "", identity)),
        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
    )  # fmt: skip
    if producer.flush(6.0) or failed:
        raise SettingError(f"Kafka at {kafka.bootstrap} did not take it ({''.join(failed) or 'no answer'})")
