"""What has to change on the broker so that it lets in whom the registry lets in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitalgate.gateway import dynsec
from vitalgate.gateway.dynsec import BrokerClient, Command


@dataclass
class Plan:
    """Commands for the broker, and the devices that it cannot be told about."""

    commands: list[Command] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Active devices that the broker does not know. It wants their passwords, and only their hashes are stored."""
    disabled: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def plan(registry: Mapping[str, bool], broker: Mapping[str, BrokerClient]) -> Plan:
    """The plan, given every device of the registry (True: active) and every user of the broker.

    Users that were not made for devices are left alone.
    """
    found = Plan()
    for device, active in registry.items():
        client = broker.get(device)
        if client is None:
            if active:
                found.missing.append(device)
        elif active and client.disabled:
            found.commands.append(dynsec.enable(device))
        elif not active and not client.disabled:
            found.commands.append(dynsec.disable(device))
            found.disabled.append(device)
    for name, client in broker.items():
        if client.is_device and name not in registry:
            found.commands.append(dynsec.delete(name))
            found.removed.append(name)
    return found
