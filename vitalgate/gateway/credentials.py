"""Passwords of devices, and their hashes in the form that Mosquitto's dynamic security file has. Pure but for chance.

The registry stores only the hash. Because it has Mosquitto's own form, the broker's file can be written anew from the
registry, and every device goes on with the password it has (``docs/decisions/0009-credentials.md``).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from vitalgate.config.broker_users import DEVICE_ROLE, password_key, user_entry

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


def restore(document: dict[str, Any], devices: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The plugin's document with exactly these devices; users that are no devices stay as they are."""
    others = [
        client
        for client in document.get("clients", [])
        if not any(role.get("rolename") == DEVICE_ROLE for role in client.get("roles", []))
    ]
    roles = list(document.get("roles", []))
    if not any(role.get("rolename") == DEVICE_ROLE for role in roles):
        roles.append({"rolename": DEVICE_ROLE, "acls": []})
    return {**document, "clients": [*others, *devices], "roles": roles}
