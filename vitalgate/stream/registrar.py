"""The registrar: registry changes to the registry topics and the broker, ticks, and a watch over the broker.

A change is one outbox row. It is marked applied when the broker has it, Kafka has it, and what it moves has been sent
again; until then it is tried again, and each of these steps may be done twice. Killed at any point, the registrar
goes on where the marks end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from vitalgate.config.loading import read_secret
from vitalgate.config.settings import Settings
from vitalgate.config.topics import REGISTRY_CLINICIANS, REGISTRY_DEVICES, device_topic
from vitalgate.config.transport import context
from vitalgate.gateway.access import Access, AccessError, Device, Person, Reconciled, open_access
from vitalgate.gateway.address import Address, backoff, manner, service_client_id
from vitalgate.gateway.broker_watch import watch
from vitalgate.gateway.confirmed import ConfirmedProducer, NotDelivered
from vitalgate.gateway.link import LinkDown
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.gateway.tell_settings import settings_payload
from vitalgate.gateway.ticks import Ticker
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.errors import StorageError, transient
from vitalgate.storage.registry import CHANNEL, OutboxRow, Registry
from vitalgate.storage.registry_clinicians import CareRegistry
from vitalgate.stream.checks import Checks
from vitalgate.stream.moving import Mover, move_of
from vitalgate.stream.record_relay import relay
from vitalgate.stream.registry_records import audit_record, registry_record
from vitalgate.telemetry import metrics
from vitalgate.telemetry.health import Health

log = logging.getLogger(__name__)

#: Outbox rows taken at once.
BATCH = 500
POLL_S = 1.0
SETTINGS_S = 10.0
#: Faults that pass: the same is tried again after a pause.
TRANSIENT = (LinkDown, AccessError, NotDelivered, StorageError)


class Registrar:
    """One per deployment."""

    def __init__(self, settings: Settings, *, health: Health | None = None) -> None:
        self._settings = settings
        mqtt = settings.mqtt
        self._password = read_secret(mqtt.admin_password_file, "broker administrator's password")
        self._watch = watch(mqtt, self._password)
        wall = settings.clock.source == "wall"
        self._ticker = Ticker(settings.kafka, settings.alerting.tick_s) if wall else None
        self._producer = ConfirmedProducer(settings.kafka, "vg-registrar")
        self._mover = Mover(settings, self._moved)
        self._checks = Checks(settings)
        # The administrator may not speak to devices; the gateway's user may.
        speaker = read_secret(mqtt.password_file, "gateway's MQTT password (mqtt.password_file)")
        name = service_client_id("vg-registrar-down", speaker)
        self._unsaid = threading.Event()
        tls = context(mqtt, "mqtt")
        self._down = Publisher(
            Address(mqtt.host, mqtt.port, name, mqtt.username, speaker, tls, clean=True, **manner(mqtt)),
            on_connect=self._unsaid.set,
        )
        self._stop = threading.Event()
        self._trouble: str | None = "has not reconciled the broker with the registry yet"
        self._published = 0
        """Rows up to this id are on their topics already (a row is published once while the broker is away)."""
        if health is not None:
            health.ready["registry"] = lambda: self._trouble
            health.ready["ticks"] = self._late_tick

    def stop(self) -> None:
        """Ask `run` to return after the rows in hand."""
        self._stop.set()

    def run(self) -> None:
        """Apply changes until `stop()`; passing faults are waited out."""
        self._watch.start()
        self._checks.start()
        if self._ticker is not None:
            self._ticker.start()
        self._mover.start()
        self._down.start()
        waits = backoff(0.2, 5.0)
        try:
            while not self._stop.is_set():
                try:
                    with CareRegistry(self._settings.database) as registry, self._broker() as broker:
                        self._reconcile(registry, broker)
                        waits = backoff(0.2, 5.0)
                        self._follow(registry, broker)
                except TRANSIENT as error:
                    self._trouble = str(error)
                    metrics.RETRIES.labels("registrar").inc()
                    log.warning("registry changes have to wait", extra={"detail": str(error)})
                    self._stop.wait(next(waits))
        finally:
            self._watch.stop()
            self._checks.stop()
            self._mover.stop()
            self._down.close()
            if self._ticker is not None:
                self._ticker.stop()
            self._producer.close()

    def _moved(self, row: int) -> None:
        """The mover is done with the data of an outbox row."""
        with Registry(self._settings.database) as registry:
            registry.mark_applied([row])

    def _broker(self) -> Access:
        return open_access(self._settings.mqtt, self._password, name="registrar")

    def _late_tick(self) -> str | None:
        if self._ticker is None:
            return None
        late = time.monotonic() - self._ticker.last
        return None if late < max(10.0, 3 * self._settings.alerting.tick_s) else "no tick has been sent lately"

    # --- start ------------------------------------------------------------------------------------------------------

    def _reconcile(self, registry: CareRegistry, broker: Access) -> None:
        """Have the broker let in whom the registry lets in, and the topics say what the registry says."""
        broker.prepare()

        # Who has no credential is no user of the broker: what people type in, clinicians with applications only.
        def devices() -> list[Device]:
            found = [one for one in registry.devices() if one.credential_hash]
            return [Device(one.device_id, one.state == "active", one.credential_hash) for one in found]

        def people() -> list[Person]:
            found = [one for one in registry.clinicians() if one.credential_hash]
            return [Person(one.clinician_id, one.state == "active", one.teams, one.credential_hash) for one in found]

        _tell("devices", broker.reconcile_devices(devices), broker.remedy)
        _tell("clinicians", broker.reconcile_clinicians(people), broker.remedy)
        known = len(registry.devices())
        if known and not self._producer.ends(REGISTRY_DEVICES):
            log.warning("the registry topics are empty: everything is sent again", extra={"devices": known})
            self._published = 0
            # Nothing changes hands by it, so that no data is moved.
            registry.everything()

    # --- running ----------------------------------------------------------------------------------------------------

    def _follow(self, registry: Registry, broker: Access) -> None:
        database = self._settings.database
        with (
            connect(database, "registrar-listen", autocommit=True) as listener,
            connect(database, "registrar-records", autocommit=True) as records,
        ):
            listener.execute(f"LISTEN {CHANNEL}")
            while not self._stop.is_set():
                self._say_all(registry)
                moving = self._mover.rows()
                rows = registry.outbox(BATCH + len(moving))
                todo = [row for row in rows if row.id not in moving]
                if todo:
                    self._apply(registry, broker, todo)
                relayed = relay(records, self._producer)
                self._trouble = None
                broker.idle()
                if len(todo) < BATCH and relayed < BATCH:
                    _wait(listener)

    def _apply(self, registry: Registry, broker: Access, rows: Sequence[OutboxRow]) -> None:
        """Broker first, so that a revoked device is cut even while Kafka is away."""
        before = registry.previous(rows)
        self._tell_broker(broker, rows, before)
        self._tell_devices(rows)
        fresh = [row for row in rows if row.id > self._published]
        if fresh:
            records = [registry_record(row) for row in fresh]
            records += [event for row in fresh if (event := audit_record(row, before.get(row.id))) is not None]
            self._producer.send(records)
            self._published = fresh[-1].id
        added = {row.key for row in rows if row.topic == REGISTRY_DEVICES.name and row.id not in before}
        moves = [move for row in rows if (move := move_of(row, before.get(row.id), fresh=row.key in added)) is not None]
        for move in moves:
            self._mover.add(move)
        waiting = {move.row for move in moves}
        registry.mark_applied(row.id for row in rows if row.id not in waiting)
        log.info(
            "registry changes applied",
            extra={"count": len(rows), "moving": len(moves), "through": rows[-1].id},
        )

    def _tell_broker(self, broker: Access, rows: Sequence[OutboxRow], before: Mapping[int, Mapping[str, Any]]) -> None:
        """Shut out who is revoked, let in again who was; a new device's user is made by whoever adds it."""
        revoked: dict[str, bool] = {}
        again: dict[str, Device] = {}
        for row in rows:
            if row.topic != REGISTRY_DEVICES.name:
                continue
            now = orjson.loads(row.value)
            if now["state"] == "revoked":
                revoked[row.key] = True
            elif before.get(row.id, {}).get("state") == "revoked":
                revoked[row.key] = False
                again[row.key] = Device(row.key, True, now["credential_hash"])
        broker.shut_out([key for key, out in revoked.items() if out])
        broker.readmit([again[key] for key, out in revoked.items() if not out])
        latest = {row.key: row for row in rows if row.topic == REGISTRY_CLINICIANS.name}
        for row in latest.values():
            told = orjson.loads(row.value)
            if told["credential_id"]:
                broker.change_clinician(told, before.get(row.id, {}))

    def _say_all(self, registry: Registry) -> None:
        """After each connection: the broker may have lost what it retained."""
        if self._unsaid.is_set():
            self._unsaid.clear()
            found = registry.settings()
            self._down.publish(
                [_settings_message(one.device_id, one.revision, one.settings if one.active else None) for one in found]
            )
            if found:
                log.info("device settings asserted", extra={"devices": len(found)})

    def _tell_devices(self, rows: Sequence[OutboxRow]) -> None:
        """Devices whose settings a change may be about find them on their topic; a revoked one finds nothing."""
        latest = {row.key: orjson.loads(row.value) for row in rows if row.topic == REGISTRY_DEVICES.name}
        messages = [
            _settings_message(key, told["settings_revision"], told["settings"] if told["state"] == "active" else None)
            for key, told in latest.items()
            if "settings_revision" in told
        ]
        if not messages:
            return
        if not self._down.connected or self._down.outstanding() > BATCH:
            raise LinkDown("device settings wait for the broker")
        self._down.publish(messages)
        if not self._down.flush(SETTINGS_S):
            raise LinkDown(f"the broker did not acknowledge device settings within {SETTINGS_S:g} s")


def _tell(what: str, done: Reconciled, remedy: str) -> None:
    """What a reconciliation did, in the log."""
    for refused in done.refused:
        log.warning("the broker refused", extra={"what": what, "detail": refused})
    if done.disabled or done.removed or done.restored:
        log.info(
            "broker reconciled with the registry",
            extra={
                "what": what, "disabled": len(done.disabled), "removed": len(done.removed),
                "restored": len(done.restored), "changes": done.changes,
            },
        )  # fmt: skip
    if done.missing:
        log.error(
            f"the broker does not know {what} that the registry has: {remedy}",
            extra={"count": len(done.missing), "first": done.missing[:5]},
        )


def _settings_message(device: str, revision: int, settings: Mapping[str, Any] | None) -> Outgoing:
    """The retained message of a device's settings; None takes it away."""
    body = b"" if settings is None else settings_payload(revision, settings)
    return Outgoing(device_topic(device, "down"), body, retain=True)


def _wait(listener: Connection) -> None:
    """Until somebody says that the registry has changed, at most `POLL_S`."""
    with transient():
        for _ in listener.notifies(timeout=POLL_S, stop_after=1):
            return
