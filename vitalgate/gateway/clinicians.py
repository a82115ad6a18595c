"""What the broker must know of clinicians: commands for its dynamic security plugin. Pure.

Each clinician has a role of their own, whose rules are the rights that they have now. Giving the role other rules
takes effect with the next message: no connection is cut for it, and the broker is not started again. A broker sends
what it retains at the time of a subscription only, so a screen subscribes once more when its user is given a team.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vitalgate.config.broker_users import CLINICIAN_ROLE
from vitalgate.gateway import dynsec
from vitalgate.gateway.alert_topics import clinician_rights
from vitalgate.gateway.dynsec import BrokerClient, Command


def own_role(user: str) -> str:
    """Name of a clinician's own role."""
    return f"{CLINICIAN_ROLE}-{user}"


def rights(user: str, teams: Iterable[str]) -> list[Command]:
    """Give a clinician's role these teams; the first command is refused, harmlessly, when the role is there."""
    acls = clinician_rights(user, teams)
    return [
        {"command": "createRole", "rolename": own_role(user), "acls": []},
        {"command": "modifyRole", "rolename": own_role(user), "acls": acls},
    ]


def create(user: str, password: str) -> Command:
    """Make a clinician's user; the roles must be there."""
    roles = [{"rolename": CLINICIAN_ROLE}, {"rolename": own_role(user)}]
    return {"command": "createClient", "username": user, "password": password, "roles": roles}


@dataclass
class Plan:
    """Commands for the broker, and the clinicians whose passwords it would need."""

    commands: list[Command] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def plan(registry: Mapping[str, tuple[bool, list[str]]], broker: Mapping[str, BrokerClient]) -> Plan:
    """The plan, given every clinician of the registry (active, teams) and every user of the broker."""
    found = Plan()
    for user, (active, teams) in registry.items():
        client = broker.get(user)
        if active:
            found.commands += rights(user, teams)
        if client is None:
            if active:
                found.missing.append(user)
        elif active and client.disabled:
            found.commands.append(dynsec.enable(user))
        elif not active:
            found.commands += shut_out(user)
    for name, client in broker.items():
        if CLINICIAN_ROLE in client.roles and name not in registry:
            found.commands += [dynsec.delete(name), {"command": "deleteRole", "rolename": own_role(name)}]
    return found


def shut_out(user: str) -> list[Command]:
    """Cut a clinician's connections, let them in no more, and take every right away."""
    return [dynsec.disable(user), {"command": "modifyRole", "rolename": own_role(user), "acls": []}]


def change(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[Command]:
    """What a record of registry.clinicians changes, given the one before it ({} when there is none).

    A new clinician's user is made by whoever adds them, for the password is known there only.
    """
    user = now["clinician"]
    if now["state"] == "revoked":
        return shut_out(user)
    again = [dynsec.enable(user)] if before.get("state") == "revoked" else []
    return [*rights(user, now["teams"]), *again]


def harmless(command: Command, error: str) -> bool:
    """Whether an error says only that it is so already, or that there is nothing to shut out."""
    text = error.lower()
    if command["command"] == "createRole":
        return "exists" in text
    return "not found" in text and (
        command["command"] in ("disableClient", "deleteClient", "deleteRole", "enableClient")
        or not command.get("acls", True)
    )
