"""Clinicians added, given passwords and teams, revoked: registry and broker together, as for devices.

The clear password goes from here to the broker and to the caller, and is written down nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from vitalgate.config.loading import read_secret
from vitalgate.config.settings import Settings
from vitalgate.gateway.access import Access, AccessError, Credential, open_access
from vitalgate.gateway.credentials import new_password
from vitalgate.gateway.link import LinkDown
from vitalgate.storage.registry_clinicians import CareRegistry
from vitalgate.stream.enrolment import APPLY_S, EnrolmentError

_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_RESERVED = "vg-"
_NAME_MOST = 100


@dataclass(frozen=True)
class Told:
    """What is told once, to the person who adds a clinician."""

    username: str
    password: str = field(repr=False)
    applied: bool
    """False: the registrar has not taken it up yet; it will when it runs."""


def add(settings: Settings, user: str, name: str, teams: Collection[str], *, who: str | None = None) -> Told:
    """Add a clinician with a random password, and wait a little for the registrar.

    Raises
    ------
    EnrolmentError
        For a user name that cannot be, or when the broker refuses.
    StorageError
        When it is taken, a team cannot be, or the database is away.
    LinkDown, AccessError
        When the broker is away; nothing has been added then.
    """
    if not _USER.fullmatch(user) or user.startswith(_RESERVED):
        raise EnrolmentError(
            f"user name {user!r}: use 1 to 64 letters, digits, dots, dashes or underscores, beginning with a letter or "
            f"digit and not with {_RESERVED!r} (it is part of topic names)"
        )
    if len(name) > _NAME_MOST or not name.isprintable():
        raise EnrolmentError(f"--name {name[:40]!r}: use at most {_NAME_MOST} printable characters")
    password = new_password()
    with _broker(settings) as broker, CareRegistry(settings.database, who=who) as registry:
        person = Credential(user, password, broker.hash_password(password))
        change = registry.add_clinician(user, name, person.hashed, teams)
        _admit(broker, person, teams)
        return Told(user, password, registry.wait_applied(change.outbox, APPLY_S))


def new_credentials(settings: Settings, user: str, *, who: str | None = None) -> Told:
    """Give a clinician another password; their connections are cut. Raises as `add`."""
    password = new_password()
    with _broker(settings) as broker, CareRegistry(settings.database, who=who) as registry:
        person = Credential(user, password, broker.hash_password(password))
        change = registry.set_clinician_credentials(user, person.hashed)
        _admit(broker, person, registry.clinicians(user)[0].teams)
        return Told(user, password, registry.wait_applied(change.outbox, APPLY_S))


def _broker(settings: Settings) -> Access:
    mqtt = settings.mqtt
    password = read_secret(mqtt.admin_password_file, "broker administrator's password (mqtt.admin_password_file)")
    return open_access(mqtt, password)


def _admit(broker: Access, person: Credential, teams: Collection[str]) -> None:
    """Make the user on the broker; one that is there already (added anew) gets the new password."""
    try:
        broker.prepare()
        errors = broker.admit_clinician(person, teams)
    except (LinkDown, AccessError) as error:
        errors = [str(error)]
    if errors:
        raise EnrolmentError(
            f"{person.user}: registered, but the broker did not take the password ({errors[0]}); "
            f"`vitalgate clinician password {person.user}` sets a new one"
        )
