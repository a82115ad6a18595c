"""Passwords of devices, and their hashes in the form that Mosquitto's dynamic security file has. Pure but for chance.

The registry stores only the hash. Because it has Mosquitto's own form, the broker's file can be written anew from the
registry, and every device goes on with the password it has (``docs/decisions/0009-credentials.md``).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from vitalgate.config.broker_users import CLINICIAN_ROLE, DEVICE_ROLE, password_key, user_entry
from vitalgate.gateway.alert_topics import clinician_rights
from vitalgate.gateway.clinicians import own_role

#: What Mosquitto 2.0 uses itself. More would slow down connecting and protect nothing: these passwords are random,
#: 144 bits, so that there is nothing to guess.
ITERATIONS = 101
_SALT_BYTES = 12


class BadHash(ValueError):
    """A stored credential hash that is not of the form `$7$iterations$salt$hash`."""


def new_password() -> str:
    """A random password of 144 bits, 24 characters that need no quoting."""
    return secrets.token_urlsafe(18)


def hash_password(password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """`$7$iterations$salt$hash`, as mosquitto_passwd writes it: PBKDF2 with HMAC-SHA-512 (RFC 8018)."""
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    key = password_key(password, salt, iterations)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${key}"


class Stored(NamedTuple):
    """The parts of a stored hash."""

    iterations: int
    salt: str
    """Base64."""
    key: str
    """Base64."""


def split_hash(text: str) -> Stored:
    """The parts of a stored hash. Raises BadHash."""
    parts = text.split("$")
    if len(parts) != 5 or parts[0] or parts[1] != "7" or not parts[2].isdigit():
        raise BadHash("a credential hash must have the form $7$iterations$salt$hash")
    return Stored(int(parts[2]), parts[3], parts[4])


def matches(password: str, text: str) -> bool:
    """Whether a password belongs to a stored hash. Raises BadHash."""
    stored = split_hash(text)
    again = hash_password(password, salt=base64.b64decode(stored.salt), iterations=stored.iterations)
    return secrets.compare_digest(again, text)


def client_entry(device: str, credential_hash: str, *, revoked: bool) -> dict[str, Any]:
    """A device's entry in the plugin's file. Raises BadHash."""
    stored = split_hash(credential_hash)
    return user_entry(
        device, [DEVICE_ROLE], key=stored.key, salt=stored.salt, iterations=stored.iterations, disabled=revoked
    )


def clinician_entry(user: str, credential_hash: str, *, revoked: bool) -> dict[str, Any]:
    """A clinician's entry in the plugin's file. Raises BadHash."""
    stored = split_hash(credential_hash)
    roles = [CLINICIAN_ROLE, own_role(user)]
    return user_entry(user, roles, key=stored.key, salt=stored.salt, iterations=stored.iterations, disabled=revoked)


def clinician_role(user: str, teams: Iterable[str]) -> dict[str, Any]:
    """A clinician's own role in the plugin's file."""
    return {"rolename": own_role(user), "acls": clinician_rights(user, teams)}


def restore(
    document: dict[str, Any], users: Iterable[dict[str, Any]], roles: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The plugin's document with exactly these devices and clinicians, and the clinicians' own roles.

    Users that are neither stay as they are.
    """
    ours = {DEVICE_ROLE, CLINICIAN_ROLE}
    others = [
        client
        for client in document.get("clients", [])
        if not any(role.get("rolename") in ours for role in client.get("roles", []))
    ]
    wanted = {role["rolename"]: role for role in roles}
    kept = [
        role for role in document.get("roles", [])
        if role.get("rolename") not in wanted and not role.get("rolename", "").startswith(own_role(""))
    ]  # fmt: skip
    there = {role.get("rolename") for role in kept}
    kept += [{"rolename": name, "acls": []} for name in sorted(ours - there)]
    return {**document, "clients": [*others, *users], "roles": [*kept, *wanted.values()]}
