"""Sealing what identifies a person, and finding it again by exact match."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import orjson

from vitalgate.pki.keyring import KeyRing
from vitalgate.pki.sealing import blind_index, blind_indexes, fold, seal, unseal
from vitalgate.records.record_type import RecordType


def context(kind: RecordType, values: Mapping[str, Any], name: str) -> str:
    """Where a sealed value belongs; a value that was copied elsewhere cannot be opened there."""
    return f"{kind.name}/{values['id']}/{name}"


def sealed(keys: KeyRing, where: str, value: Any) -> bytes:
    """A value of any JSON kind, sealed."""
    return seal(keys, orjson.dumps(value), where)


def unsealed(keys: KeyRing, kind: RecordType, name: str, where: str, value: bytes) -> Any:
    """The value again, of its field's type."""
    found = orjson.loads(unseal(keys, value, where))
    return date.fromisoformat(found) if name == "date_of_birth" and isinstance(found, str) else found


def index(keys: KeyRing, kind: RecordType, name: str, value: Any) -> str:
    """What to store beside a sealed value to find it by."""
    return blind_index(keys, f"{kind.name}.{name}", _folded(value))


def indexes(keys: KeyRing, kind: RecordType, name: str, value: Any) -> list[str]:
    """What to search for: the index by each key of the ring."""
    wanted = value if isinstance(value, (list, tuple)) else [value]
    return [found for one in wanted for found in blind_indexes(keys, f"{kind.name}.{name}", _folded(one))]


def _folded(value: Any) -> str:
    return fold(value.isoformat() if isinstance(value, date) else str(value))
