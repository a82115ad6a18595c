"""RabbitMQ behind the seam of `access.py`: its HTTP API.

RabbitMQ has no disabled users: who is shut out is deleted, with their sessions, and who is let in again is made anew
from the hash that the registry has. So a RabbitMQ that has lost its users gets them back at the registrar's next start.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from vitalgate.config import rabbit_definitions
from vitalgate.config.broker_users import CLINICIAN_ROLE, DEVICE_ROLE
from vitalgate.config.rabbit_definitions import Rights, broker_hash, permission_entry, topic_entry, user_entry
from vitalgate.config.settings import MqttSettings
from vitalgate.gateway.access import AccessError, Credential, Device, Person, Reconciled
from vitalgate.gateway.rabbit_api import RabbitApi
from vitalgate.gateway.rabbit_rights import clinician_rights, device_rights, sessions

log = logging.getLogger(__name__)


class _Wanted(NamedTuple):
    """How a user shall be."""

    name: str
    hashed: str
    """As the registry stores it."""
    tag: str
    rights: Rights


class _There(NamedTuple):
    """What the broker has: users, permissions, topic permissions, by user name."""

    users: dict[str, dict[str, Any]]
    permissions: dict[str, dict[str, Any]]
    topics: dict[str, dict[str, Any]]


class RabbitAccess:
    """See `Access`."""

    remedy = (
        "their passwords are stored in the form of another broker: `vitalgate device password ID`, `vitalgate "
        "clinician password ID` give each another password (a device id with a dot cannot be on RabbitMQ)"
    )

    def __init__(self, mqtt: MqttSettings, password: str) -> None:
        self._api = RabbitApi(mqtt, mqtt.admin_username, password)
        self._vhost = mqtt.vhost
        if self._api.call("GET", "vhosts", self._vhost) is None:
            raise AccessError(
                f"RabbitMQ has no virtual host {self._vhost!r} (mqtt.vhost): import the definitions that "
                "`vitalgate broker prepare` writes"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.close()

    def idle(self) -> None:
        """There is no connection to keep."""

    def check_name(self, name: str) -> None:
        """Refuse dots: RabbitMQ cannot tell the topics of `a.b` from those of `a/b`."""
        if "." in name:
            raise ValueError(
                f"{name!r} has a dot, which RabbitMQ takes for the `/` between the levels of a topic: use a dash"
            )

    def hash_password(self, password: str) -> str:
        """As RabbitMQ's API takes it."""
        return rabbit_definitions.hash_password(password)

    def prepare(self) -> None:
        """Nothing: rights are each user's own."""

    # --- let in, shut out -------------------------------------------------------------------------------------------

    def admit(self, devices: Sequence[Credential]) -> list[str]:
        """See `Access`."""
        return self._admit([_Wanted(one.user, one.hashed, DEVICE_ROLE, device_rights(one.user)) for one in devices])

    def admit_clinician(self, person: Credential, teams: Iterable[str]) -> list[str]:
        """See `Access`."""
        rights = clinician_rights(person.user, teams)
        return self._admit([_Wanted(person.user, person.hashed, CLINICIAN_ROLE, rights)])

    def _admit(self, wanted: Sequence[_Wanted]) -> list[str]:
        try:
            there = self._api.users().keys()
            self._define(wanted)
            for one in wanted:
                if one.name in there:  # connections that were made with the old password
                    self._api.cut(one.name)
        except AccessError as error:
            return [str(error)]
        return []

    def _define(self, wanted: Sequence[_Wanted]) -> None:
        """Make users or change them.

        Topic permissions come before permissions: without a topic permission everything is allowed, and without a
        permission nothing.
        """
        if not wanted:
            return
        users = [user_entry(one.name, hashed, one.tag) for one in wanted if (hashed := broker_hash(one.hashed))]
        if len(users) < len(wanted):
            raise AccessError(f"a password that is not hashed for RabbitMQ cannot be set; {self.remedy}")
        topics = [topic_entry(one.name, self._vhost, one.rights) for one in wanted]
        self._api.define(users=users, topic_permissions=topics)
        self._api.define(permissions=[permission_entry(one.name, self._vhost, one.rights) for one in wanted])

    def shut_out(self, devices: Sequence[str]) -> None:
        """See `Access`."""
        there = [device for device in devices if self._api.delete_user(device)]
        self._forget(there)

    def readmit(self, devices: Sequence[Device]) -> None:
        """See `Access`; one whose password is not known in RabbitMQ's form stays outside, and the log says so."""
        known = self._api.users().keys() if devices else ()
        wanted = [self._device(one) for one in devices if one.device_id not in known and broker_hash(one.hashed)]
        self._define(wanted)

    def _forget(self, users: Iterable[str]) -> None:
        """Remove the sessions of users."""
        patterns = [sessions(user) for user in users]
        if patterns:
            for queue in self._api.queues():
                if any(pattern.fullmatch(queue["name"]) for pattern in patterns):
                    self._api.delete_queue(queue["name"])

    def change_clinician(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """See `Access`.

        A subscription is not looked at again: one for a team that was taken away is removed, and the connection,
        which remembers what it may, is cut.
        """
        user = now["clinician"]
        if now["state"] == "revoked":
            if self._api.delete_user(user):
                self._forget([user])
            return
        if user not in self._api.users():  # made by whoever adds them, for the password is known there only
            return
        self._give(user, clinician_rights(user, now["teams"]))

    def _give(self, user: str, rights: Rights) -> None:
        topic = topic_entry(user, self._vhost, rights)
        before = self._api.topic_permissions().get(user)
        if before == topic:
            return
        self._api.define(topic_permissions=[topic])
        if before is None:
            return
        self._api.cut(user)
        allowed, own = re.compile(rights.topic_read), sessions(user)
        self._api.unsubscribe(
            one
            for one in self._api.subscriptions()
            if own.fullmatch(one["destination"]) and not allowed.match(one["routing_key"])
        )

    # --- reconcile --------------------------------------------------------------------------------------------------

    def _device(self, device: Device) -> _Wanted:
        return _Wanted(device.device_id, device.hashed, DEVICE_ROLE, device_rights(device.device_id))

    def reconcile_devices(self, registry: Callable[[], Sequence[Device]]) -> Reconciled:
        """See `Access`."""
        there = self._there()
        devices = registry()
        wanted = [self._device(one) for one in devices if one.active and "." not in one.device_id]
        done = self._reconcile(there, DEVICE_ROLE, wanted, {one.device_id for one in devices})
        done.missing += [one.device_id for one in devices if one.active and "." in one.device_id]
        return done

    def reconcile_clinicians(self, registry: Callable[[], Sequence[Person]]) -> Reconciled:
        """See `Access`."""
        there = self._there()
        people = registry()
        wanted = [
            _Wanted(one.user, one.hashed, CLINICIAN_ROLE, clinician_rights(one.user, one.teams))
            for one in people
            if one.active
        ]
        return self._reconcile(there, CLINICIAN_ROLE, wanted, {one.user for one in people})

    def _there(self) -> _There:
        return _There(self._api.users(), self._api.permissions(), self._api.topic_permissions())

    def _reconcile(self, there: _There, tag: str, wanted: Sequence[_Wanted], registered: set[str]) -> Reconciled:
        done = Reconciled()
        users, permissions, topics = there
        make: list[_Wanted] = []
        for one in wanted:
            user, hashed = users.get(one.name), broker_hash(one.hashed)
            if hashed is None:
                if user is None:
                    done.missing.append(one.name)
                continue
            if user is None:
                done.restored.append(one.name)
                make.append(one)
            elif user["password_hash"] != hashed or permissions.get(one.name) != permission_entry(
                one.name, self._vhost, one.rights
            ):
                make.append(one)
        try:
            self._define(make)
            for one in wanted:
                if one.name not in users:
                    continue
                if topics.get(one.name) != topic_entry(one.name, self._vhost, one.rights):
                    self._give(one.name, one.rights)
                    done.changes += 1
            for one in make:
                if one.name in users:
                    self._api.cut(one.name)
            names = {one.name for one in wanted}
            for name, user in users.items():
                if tag in _tags(user) and name not in names:
                    (done.disabled if name in registered else done.removed).append(name)
            for name in (*done.disabled, *done.removed):
                self._api.delete_user(name)
            self._forget([*done.disabled, *done.removed])
        except AccessError as error:
            done.refused.append(str(error))
        done.changes += len(make) + len(done.disabled) + len(done.removed)
        return done


def _tags(user: Mapping[str, Any]) -> Sequence[str]:
    """A user's tags: a list, or one text with commas in older versions."""
    tags = user.get("tags", ())
    return tags.split(",") if isinstance(tags, str) else tags
