"""From a scenario to people and devices with ids, and, once they are registered, to a fleet that can run."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vitalgate.client.protocol import Policy
from vitalgate.devices.catalogue import Catalogue
from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.device import Account, SimulatedDevice
from vitalgate.simulators.firmware import Firmware
from vitalgate.simulators.fleet import Fleet
from vitalgate.simulators.happenings import actions
from vitalgate.simulators.journal import Journal
from vitalgate.simulators.noise import stream
from vitalgate.simulators.physiology import Change, Person, Rhythm, draw_body
from vitalgate.simulators.scenario import DeviceOf, EventOf, PatientOf, Scenario


@dataclass(frozen=True)
class Player:
    """One simulated patient."""

    patient: str
    """The patient id."""
    role: str
    """Its name in the scenario."""
    copy: int
    team: str
    zone: str
    person: Person


@dataclass(frozen=True)
class Prop:
    """One simulated device."""

    device: str
    """The device id."""
    label: str
    """Its name in the scenario."""
    kind: str
    player: Player
    given: DeviceOf


@dataclass(frozen=True)
class Cast:
    """Everybody and everything in a run."""

    players: tuple[Player, ...]
    props: tuple[Prop, ...]


class Registry(Protocol):
    """What a run needs from the system's registry; `vitalgate simulate` brings the real one."""

    def enrol(self, cast: Cast, since: float) -> Mapping[str, str]:
        """Register patients and devices, assigned since then; the password of each device."""

    def hand_over(self, device: str, patient: str, since: float) -> None:
        """From `since` on (seconds since 1970) the device is the patient's; nobody's when empty."""


def new_prefix(word: str = "sim") -> str:
    """A prefix that keeps the ids of one run apart from all others."""
    return f"{word}-{secrets.token_hex(3)}"


def together(*casts: Cast) -> Cast:
    """All of them as one."""
    return Cast(
        tuple(player for each in casts for player in each.players), tuple(prop for each in casts for prop in each.props)
    )


def cast(scenario: Scenario, clock: VirtualClock, *, prefix: str, seed: int, copies: int | None = None) -> Cast:
    """People and devices of a scenario.

    Parameters
    ----------
    seed
        Makes the people: the same seed, the same hearts.
    copies
        Instead of each patient's own count.
    """
    players: list[Player] = []
    props: list[Prop] = []
    for role in scenario.patients:
        count = copies or role.count
        for copy in range(1, count + 1):
            patient = f"{prefix}-{role.name}" + (f"-{copy:0{len(str(count))}d}" if count > 1 else "")
            who = stream(seed, f"{role.name} {copy}") >> 1
            player = Player(patient, role.name, copy, role.team, role.zone, _person(role, who, clock.start))
            players.append(player)
            for given in role.devices:
                label = given.name or given.kind
                props.append(Prop(f"{patient}-{label}", label, given.kind, player, given))
    return Cast(tuple(players), tuple(props))


def _person(role: PatientOf, seed: int, origin: float) -> Person:
    changes = tuple(
        Change(change.what, "set" if change.set is not None else "add", tuple(change.set or change.add or ()))
        for change in role.changes
    )
    rhythms = tuple(Rhythm(each.kind, each.at, each.seconds, each.share) for each in role.rhythms)
    return Person(seed, origin, changes, rhythms, draw_body(seed, role.body))


def assemble(
    scenario: Scenario, members: Cast, passwords: Mapping[str, str], clock: VirtualClock, journal: Journal,
    catalogue: Catalogue, registry: Registry, *, host: str, port: int, tls: ssl.SSLContext | None = None,
    policy: Policy | None = None,
) -> Fleet:  # fmt: skip
    """The fleet of a scenario, ready to run."""
    devices: dict[str, SimulatedDevice] = {}
    for prop in members.props:
        firmware = Firmware(
            catalogue.kind(prop.kind), prop.given, prop.player.person, stream(prop.player.person.seed, prop.label),
            clock.start,
        )  # fmt: skip
        devices[prop.device] = SimulatedDevice(
            Account(host, port, prop.device, passwords[prop.device], tls), firmware, journal,
            patient=prop.player.patient if prop.given.assigned else "", say_when=not clock.accelerated, policy=policy,
        )  # fmt: skip

    def chosen(event: EventOf) -> Sequence[SimulatedDevice]:
        role, _, label = event.device.partition("/")
        return [
            devices[prop.device]
            for prop in members.props
            if event.device == "*" or (prop.player.role == role and label in ("", prop.label))
        ]

    def hand_over(device: SimulatedDevice, role: str, since: float) -> None:
        copy = next(prop.player.copy for prop in members.props if prop.device == device.name)
        to = next((p for p in members.players if p.role == role and p.copy == copy), None)
        to = to or next((p for p in members.players if p.role == role), None)
        device.patient = to.patient if to else ""
        if to is not None:
            device.firmware.person = to.person
        registry.hand_over(device.name, device.patient, since)

    planned = actions(scenario.events, chosen, clock, hand_over)
    journal.note("scenario", scenario.name)
    journal.note("start", clock.start)
    journal.note("speed", clock.speed)
    journal.note("players", {player.patient: player.role for player in members.players})
    return Fleet(list(devices.values()), clock, scenario.seconds, journal, planned)
