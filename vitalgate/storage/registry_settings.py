"""Settings of devices: what may be set, and the table that holds it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vitalgate.devices import catalogue, kind_settings
from vitalgate.devices.kind_settings import Value
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError

KEYS_MOST = 64
TEXT_MOST = 256
BYTES_MOST = 8192
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
_WHOLE_MOST = 2**53


@dataclass(frozen=True)
class DeviceSettings:
    """What a device is to do."""

    device_id: str
    revision: int
    """Rises with every change; 0 as long as nothing has been set."""
    settings: Mapping[str, Value]
    active: bool = True
    """False: the device is revoked, and nothing may be left on its topic."""


def changed(before: Mapping[str, Value], wanted: Mapping[str, Value], unset: Collection[str]) -> dict[str, Value]:
    """The settings after a change.

    Raises
    ------
    StorageError
        For a key or value that cannot be, naming it and the limit.
    """
    for key, value in wanted.items():
        _check(key, value)
        if key in unset:
            raise StorageError(f"{key!r} is to be set and unset at once")
    for key in unset:
        if key not in before:
            raise StorageError(f"{key!r} is not set; `vitalgate device show` prints what is")
    after = {key: value for key, value in {**before, **wanted}.items() if key not in unset}
    size = len(json.dumps(after, ensure_ascii=False).encode())
    if len(after) > KEYS_MOST or size > BYTES_MOST:
        raise StorageError(
            f"{len(after)} settings of {size} bytes together: a device may have {KEYS_MOST} of {BYTES_MOST} bytes; "
            "--unset some"
        )
    return after


def declared(kind: str, wanted: Mapping[str, Value]) -> None:
    """Raises StorageError for a name that this kind of device does not declare, or a value that it does not take."""
    found = catalogue.load().kinds.get(kind)
    try:
        kind_settings.check(kind, found.settings if found else {}, wanted)
    except kind_settings.SettingRefused as refused:
        raise StorageError(f"{refused} (--undeclared sets what the catalogue does not know)") from refused


def _check(key: str, value: Value) -> None:
    if not _KEY.fullmatch(key):
        raise StorageError(
            f"{key!r} is no name of a setting: use 1 to 64 letters, digits, dots, dashes or underscores, beginning "
            "with a letter"
        )
    if isinstance(value, str):
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > TEXT_MOST or any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in value):
            raise StorageError(
                f"{key}: a text of {size} bytes; at most {TEXT_MOST} are taken, without control characters"
            )
    elif not isinstance(value, (bool, int, float)):
        raise StorageError(f"{key}: {value!r} is neither text, number, true nor false; --unset {key} removes it")
    elif not isinstance(value, bool) and (not math.isfinite(value) or abs(value) > _WHOLE_MOST):
        raise StorageError(f"{key}: {value} is beyond what a device's JSON reader keeps (2^53)")


def read(connection: Connection, device_id: str | None = None) -> list[DeviceSettings]:
    """Of all devices that have had settings, or of the one."""
    rows = connection.execute(
        "SELECT s.device_id, s.revision, s.settings, d.state = 'active' FROM device_settings s JOIN devices d"
        " USING (device_id) WHERE %s::text IS NULL OR s.device_id = %s ORDER BY s.device_id",
        (device_id, device_id),
    ).fetchall()
    return [DeviceSettings(*row) for row in rows]


def write(connection: Connection, device_id: str, settings: Mapping[str, Value]) -> int:
    """Replace a device's settings; the new revision."""
    row = connection.execute(
        "INSERT INTO device_settings AS s (device_id, revision, settings) VALUES (%s, 1, %s) ON CONFLICT (device_id)"
        " DO UPDATE SET revision = s.revision + 1, settings = excluded.settings, updated_at = now() RETURNING revision",
        (device_id, json.dumps(settings)),
    ).fetchone()
    assert row is not None
    return int(row[0])


def clear(connection: Connection, device_id: str) -> None:
    """A device is added anew: what was set for it before does not hold."""
    connection.execute(
        "UPDATE device_settings SET revision = revision + 1, settings = '{}', updated_at = now()"
        " WHERE device_id = %s AND settings <> '{}'",
        (device_id,),
    )
