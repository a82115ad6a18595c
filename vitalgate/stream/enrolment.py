"""Devices added, given passwords, assigned and revoked: registry and broker together.

The clear password goes from here to the broker and to the caller, and is written down nowhere; the registry keeps its
hash. See ``docs/decisions/0009-credentials.md``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vitalgate.config.loading import read_secret
from vitalgate.config.settings import Settings
from vitalgate.devices import catalogue
from vitalgate.devices.catalogue import UnknownName
from vitalgate.gateway.access import Access, AccessError, Credential, open_access
from vitalgate.gateway.credentials import new_password
from vitalgate.gateway.link import LinkDown
from vitalgate.storage.registry import NewDevice, Registry

#: How long a command waits for the registrar before it says that the change will be applied later.
APPLY_S = 5.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_RESERVED = "vg-"
_COLUMNS = ("device_id", "kind", "patient", "serial", "firmware")


class EnrolmentError(Exception):
    """It could not be done; the text says what, with the value, the limit and the remedy."""


@dataclass(frozen=True)
class Wanted:
    """A device that somebody wants added."""

    device_id: str
    kind: str
    patient: str | None = None
    serial: str = ""
    firmware: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None
    """When its assignment begins; the moment of adding when None."""


@dataclass(frozen=True)
class Enrolled:
    """What is told once, to the person who adds a device."""

    device_id: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What was done."""

    devices: list[Enrolled]
    applied: bool
    """False: the registrar has not taken it up yet; it will when it runs."""


def check(wanted: Sequence[Wanted]) -> None:
    """Refuse ids and kinds that cannot be.

    Raises
    ------
    EnrolmentError
        For the first that is wrong.
    """
    kinds = catalogue.load()
    seen: set[str] = set()
    for device in wanted:
        if not _ID.fullmatch(device.device_id) or device.device_id.startswith(_RESERVED):
            raise EnrolmentError(
                f"device id {device.device_id!r}: use 1 to 64 letters, digits, dots, dashes or underscores, beginning "
                f"with a letter or digit and not with {_RESERVED!r} (it is a user name and part of topic names)"
            )
        if device.device_id in seen:
            raise EnrolmentError(f"device id {device.device_id!r} stands twice")
        seen.add(device.device_id)
        try:
            kinds.kind(device.kind)
        except UnknownName as error:
            raise EnrolmentError(str(error)) from error


def add(settings: Settings, wanted: Sequence[Wanted], *, apply_s: float = APPLY_S, who: str | None = None) -> Outcome:
    """Add devices, all or none, with a random password each, and wait up to `apply_s` for the registrar.

    `who` is for the audit: in whose name; whoever runs this when left out.

    Raises
    ------
    EnrolmentError
        For an id or kind that cannot be, or when the broker refuses.
    StorageError
        When an id is taken, a patient is unknown or the database is away.
    LinkDown
        When the broker is away; nothing has been added then.
    """
    check(wanted)
    with _broker(settings) as broker, Registry(settings.database, who=who) as registry:
        _check_names(broker, wanted)
        told = [_new(broker, device.device_id) for device in wanted]
        new = [
            NewDevice(
                device.device_id,
                device.kind,
                one.hashed,
                device.patient,
                device.serial,
                device.firmware,
                device.attributes,
                device.since,
            )
            for device, one in zip(wanted, told, strict=True)
        ]
        change = registry.add_devices(new)
        _admit(broker, told)
        return Outcome([_told(one) for one in told], registry.wait_applied(change.outbox, apply_s))


def new_credentials(settings: Settings, device_id: str, *, who: str | None = None) -> Outcome:
    """Give a device another password; its connection is cut. Raises as `add`."""
    with _broker(settings) as broker, Registry(settings.database, who=who) as registry:
        told = _new(broker, device_id)
        change = registry.set_credentials(device_id, told.hashed)
        _admit(broker, [told])
        return Outcome([_told(told)], registry.wait_applied(change.outbox, APPLY_S))


def _new(broker: Access, device: str) -> Credential:
    password = new_password()
    return Credential(device, password, broker.hash_password(password))


def _told(one: Credential) -> Enrolled:
    return Enrolled(one.user, one.user, one.password)


def _check_names(broker: Access, wanted: Sequence[Wanted]) -> None:
    for device in wanted:
        try:
            broker.check_name(device.device_id)
        except ValueError as error:
            raise EnrolmentError(f"device id {error}") from error


@contextmanager
def _broker(settings: Settings) -> Iterator[Access]:
    """An administrator's connection, made before anything is changed."""
    mqtt = settings.mqtt
    password = read_secret(mqtt.admin_password_file, "broker administrator's password (mqtt.admin_password_file)")
    with open_access(mqtt, password) as broker:
        broker.prepare()
        yield broker


def _admit(broker: Access, devices: Sequence[Credential]) -> None:
    """Make the users on the broker; one that is there already (a device added anew) gets the new password."""
    names = ", ".join(told.user for told in devices[:3]) + (" …" if len(devices) > 3 else "")
    try:
        errors = broker.admit(devices)
    except (LinkDown, AccessError) as error:
        errors = [str(error)]
    if errors:
        raise EnrolmentError(
            f"{names}: registered, but the broker did not take the password ({errors[0]}); "
            "`vitalgate device password ID` sets a new one"
        )


# --- many at once ---------------------------------------------------------------------------------------------------


def read_wanted(text: str, kind: str | None = None) -> list[Wanted]:
    """Devices from CSV with a header line, or from JSON lines.

    Columns or keys: device_id, kind, patient, serial, firmware; further ones become attributes.

    Parameters
    ----------
    kind
        Of those that name none.

    Raises
    ------
    EnrolmentError
        Naming the line that is wrong.
    """
    if text.lstrip()[:1] == "{":
        rows = list(_json_lines(text))
    else:
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        if "device_id" not in (reader.fieldnames or ()):
            raise EnrolmentError(
                f"the first line of the CSV must name the columns, device_id among them; it is {reader.fieldnames}"
            )
        rows = [(reader.line_num, {key: value for key, value in row.items() if key and value}) for row in reader]
    wanted = []
    for line, row in rows:
        device_id, named = row.get("device_id"), row.get("kind") or kind
        if not isinstance(device_id, str) or not isinstance(named, str):
            raise EnrolmentError(f"line {line}: a device needs device_id and kind, here {sorted(row)}")
        more = {key: value for key, value in row.items() if key not in _COLUMNS}
        serial, firmware = str(row.get("serial") or ""), str(row.get("firmware") or "")
        wanted.append(Wanted(device_id, named, row.get("patient") or None, serial, firmware, more))
    if not wanted:
        raise EnrolmentError("the file names no device")
    return wanted


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise EnrolmentError(f"line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise EnrolmentError(f"line {number} is no JSON object")
            yield number, row
