"""Users as the file of Mosquitto's dynamic security plugin has them: the one place that knows the form. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

DEVICE_ROLE = "device"
"""Every device's role: it carries no rights (the broker's ACL file gives them) and tells devices from other users."""
CLINICIAN_ROLE = "clinician"
"""Every clinician's role: it carries no rights either. Each has a role of their own, `clinician-NAME`, that does."""
_KEY_BYTES = 64


def password_key(password: str, salt: bytes, iterations: int) -> str:
    """A password's hash as the plugin and mosquitto_passwd write it: PBKDF2 with HMAC-SHA-512 (RFC 8018), base64."""
    return base64.b64encode(hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations, _KEY_BYTES)).decode()


def user_entry(
    username: str, roles: Sequence[str], *, key: str, salt: str, iterations: int, text: str = "", disabled: bool = False
) -> dict[str, object]:
    """One user of the document; `key` and `salt` in base64."""
    entry: dict[str, object] = {
        "username": username,
        "textname": text,
        "textdescription": "",
        "roles": [{"rolename": role} for role in roles],
        "password": key,
        "salt": salt,
        "iterations": iterations,
    }
    if disabled:
        entry["disabled"] = True
    return entry
