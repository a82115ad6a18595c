"""The table of rights in Kafka, `kafka_rights.toml`, as bindings of Kafka's authorizer. Pure but for reading it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final, Literal

from vitalgate.config.settings import KafkaSettings

ADMIN: Final = "admin"
"""Creates topics and gives rights; a super user of the cluster, and so are its nodes."""
NODE: Final = "node"
_KEYS = {"read", "write", "groups", "ask"}


@dataclass(frozen=True, order=True)
class Right:
    """One binding: who may do what to which topic or group. `prefixed`: to all whose name begins so."""

    who: str
    resource: Literal["topic", "group"]
    name: str
    operation: Literal["read", "write", "describe"]
    prefixed: bool = False


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, list[str]]]:
    """The table as it is written. Raises ValueError for a key that there is not."""
    text = resources.files("vitalgate.config").joinpath("kafka_rights.toml").read_text(encoding="utf-8")
    document: dict[str, dict[str, list[str]]] = tomllib.loads(text)
    for who, entry in document.items():
        if unknown := entry.keys() - _KEYS:
            raise ValueError(f"kafka_rights.toml: [{who}] has {', '.join(sorted(unknown))}; there are {sorted(_KEYS)}")
    return document


def people() -> list[str]:
    """Everybody the table names."""
    return list(table())


def rights(kafka: KafkaSettings) -> list[Right]:
    """Every binding of a deployment, its prefix before each name."""
    found: list[Right] = []
    for who, entry in table().items():
        found += [_right(who, "topic", kafka.prefix + name, "read") for name in entry.get("read", ())]
        found += [_right(who, "topic", kafka.prefix + name, "write") for name in entry.get("write", ())]
        for name in entry.get("groups", ()):
            # Some groups are the same in all deployments of a cluster: they only look.
            names = {name, kafka.prefix + name} if name.startswith("vg-") else {kafka.prefix + name}
            found += [_right(who, "group", each, "read") for each in sorted(names)]
        found += [_right(who, "group", kafka.prefix + name, "describe") for name in entry.get("ask", ())]
    return sorted(set(found))


def _right(
    who: str, resource: Literal["topic", "group"], name: str, operation: Literal["read", "write", "describe"]
) -> Right:
    if name.endswith("*") and name != "*":
        return Right(who, resource, name[:-1], operation, prefixed=True)
    return Right(who, resource, name, operation)
