"""The one table of who may do what, read from ``permissions.toml``. Pure but for reading that packaged file once."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources


class Role(StrEnum):
    """In which a user acts; one at a time."""

    PATIENT = "patient"
    CLINICIAN = "clinician"
    ADMINISTRATOR = "administrator"
    DEVICE_MANAGER = "device_manager"


class Relation(StrEnum):
    """Of the acting user to a record's patient (to the account, for users and sessions)."""

    OWN = "own"
    ASSIGNED = "assigned"
    FORMERLY = "formerly"
    BREAK_GLASS = "break_glass"
    STRANGER = "stranger"


class Condition(StrEnum):
    """What must hold of the row besides."""

    NONE = ""
    PUBLISHED = "published"
    PARTY = "party"
    RECIPIENT = "recipient"
    AUTHOR = "author"


#: The relations that a user of a role can have; `relation_of` gives nothing else.
RELATIONS: dict[Role, tuple[Relation, ...]] = {
    Role.PATIENT: (Relation.OWN, Relation.STRANGER),
    Role.CLINICIAN: (
        Relation.OWN, Relation.ASSIGNED, Relation.FORMERLY, Relation.BREAK_GLASS, Relation.STRANGER,
    ),
    Role.ADMINISTRATOR: (Relation.OWN, Relation.STRANGER),
    Role.DEVICE_MANAGER: (Relation.OWN, Relation.STRANGER),
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Permission:
    """One line of the table."""

    record: str
    verb: str
    role: Role
    relation: Relation
    condition: Condition = Condition.NONE


@cache
def permissions() -> tuple[Permission, ...]:
    """All lines, sorted.

    Raises
    ------
    ValueError
        For a line that is no "role relation [condition]", or is there twice.
    """
    text = resources.files(__package__).joinpath("permissions.toml").read_text(encoding="utf-8")
    found = []
    for record, verbs in tomllib.loads(text).items():
        for verb, lines in verbs.items():
            for line in lines:
                words = line.split()
                if len(words) not in (2, 3):
                    raise ValueError(f"permissions.toml [{record}] {verb}: {line!r} is no 'role relation [condition]'")
                condition = Condition(words[2]) if len(words) == 3 else Condition.NONE
                found.append(Permission(record, verb, Role(words[0]), Relation(words[1]), condition))
    keys = [(one.record, one.verb, one.role, one.relation) for one in found]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"permissions.toml says twice who may do what: {sorted(twice)[0]}")
    return tuple(sorted(found))


def condition_of(record: str, verb: str, role: Role, relation: Relation) -> Condition | None:
    """Under which condition a user may do this; None when not at all."""
    for one in permissions():
        if (one.record, one.verb, one.role, one.relation) == (record, verb, role, relation):
            return one.condition
    return None
