"""What is sent in every round of one seed: the same measurements, seconds after the start, whenever that is.

The people live at a fixed moment and what their devices make is shifted to the present, so that two rounds of one seed
differ by nothing but the time at which they were run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vitalgate.client.outbox import Outbox
from vitalgate.client.protocol import Policy
from vitalgate.devices.catalogue import Catalogue
from vitalgate.simulators.cast import Cast, Prop, Registry, cast
from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.device import Account, SimulatedDevice
from vitalgate.simulators.firmware import Emission, Firmware
from vitalgate.simulators.fleet import Action, Fleet
from vitalgate.simulators.happenings import actions
from vitalgate.simulators.journal import Journal
from vitalgate.simulators.noise import stream
from vitalgate.simulators.scenario import EventOf, Scenario, check

#: Changed whenever the traffic does: results kept of an earlier one are then no measure.
VERSION = 2
#: When the people live: a Monday noon in UTC, a whole minute.
ORIGIN = 1_767_614_400
SPEED = 2.0
#: Virtual seconds of a round.
SECONDS = 50.0
#: How soon a device sends again: rounds are short.
PATIENCE = Policy(first_s=1.5, cap_s=4.0)
#: Devices without outbox begin with this word.
PLAIN = "plain"

_OX = {"kind": "pulse-oximeter", "waveforms": False, "metrics": ["spo2", "pulse_rate"], "every": 1.0, "first": 0.5}
_ECG = {"kind": "ecg-patch", "packet_s": 1.0, "metrics": ["heart_rate"]}
_FALL = [[0, 96], [9, 96], [12, 87.5], [30, 87], [34, 80], [50, 79]]
_LOW = [[0, 95], [16, 95], [17, 46], [50, 45]]
SCENARIO: Scenario = check(
    {
        "name": "torture", "title": "What torture rounds send", "seconds": SECONDS, "speed": SPEED,
        "patients": [
            {"name": "breathless", "devices": [_OX], "changes": [{"what": "spo2", "set": _FALL}]},
            {
                "name": "slow", "devices": [_ECG],
                "changes": [{"what": "heart_rate", "set": [[0, 70], [17, 70], [18, 36], [40, 36], [41, 70]]}],
                "rhythms": [{"kind": "pause", "at": 30, "seconds": 3.6}],
            },
            {
                "name": "uneven", "devices": [_ECG, {"kind": "thermometer", "every": 6, "first": 2}],
                "changes": [{"what": "temperature", "set": [[0, 37], [20, 37], [21, 39.8]]}],
                "rhythms": [{"kind": "ectopy", "at": 5, "seconds": 40, "share": 0.25}],
            },
            {
                "name": "mistyped",
                "devices": [
                    {"kind": "glucose-meter", "every": 3, "first": 1, "site": "finger"},
                    {"kind": "bp-cuff", "every": 5, "first": 2, "site": "left-arm"},
                ],
                "changes": [
                    {"what": "glucose", "set": _LOW},
                    {"what": "systolic", "set": [[0, 128], [19, 128], [19.5, 192], [24, 192], [24.5, 130]]},
                ],
            },
            {
                "name": f"{PLAIN}-lungs", "devices": [{**_OX, "numbered": False}],
                "changes": [{"what": "spo2", "set": _FALL}],
            },
            {
                "name": f"{PLAIN}-heart", "devices": [{**_ECG, "numbered": False}],
                "changes": [{"what": "heart_rate", "set": [[0, 66], [22, 66], [23, 38], [50, 38]]}],
            },
            {
                "name": f"{PLAIN}-sugar",
                "devices": [{"kind": "glucose-meter", "every": 2, "first": 1, "numbered": False}],
                "changes": [{"what": "glucose", "set": _LOW}],
            },
        ],
        "events": [
            {"at": 14, "device": "mistyped/glucose-meter", "do": "correct", "change": 4, "count": 2},
            {"at": 20, "device": "mistyped/glucose-meter", "do": "repeat", "count": 3},
            {"at": 26, "device": "mistyped/bp-cuff", "do": "correct", "metric": "bp_systolic", "value": 131},
            {"at": 31, "device": "mistyped/glucose-meter", "do": "retract"},
            {"at": 33, "device": "breathless/pulse-oximeter", "do": "resend", "count": 5},
            {"at": 36, "device": "uneven/thermometer", "do": "garbage", "what": "out-of-range", "count": 2},
            # Bytes that are no message have no number: whoever sends them, they are plain QoS 1.
            {"at": 37, "device": "plain-sugar/glucose-meter", "do": "garbage", "what": "undecodable", "count": 2},
        ],
    },
    "the torture scenario",
)  # fmt: skip


@dataclass
class ShiftedFirmware(Firmware):
    """Makes what it made at `ORIGIN`, as if it were now."""

    shift_s: int = 0

    def time_text(self, at_us: int) -> str:
        """A time as the device writes it: in the present."""
        return super().time_text(at_us + self.shift_s * 1_000_000)

    def emissions(self, stop: float) -> Iterator[Emission]:
        """Its messages up to virtual time `stop` of the present."""
        for emission in super().emissions(stop - self.shift_s):
            items = [replace(item, time_us=item.time_us + self.shift_s * 1_000_000) for item in emission.items]
            yield replace(emission, at=emission.at + self.shift_s, items=items)


class TortureDevice(SimulatedDevice):
    """A simulated device with an outbox on disk, which may be reset, replaced or restored from a backup."""

    file: Path | None = None

    def keep_in(self, file: Path) -> None:
        """Keep what is not receipted in this file from now on."""
        self.file = file
        self.outbox = Outbox(file, durable=False)  # type: ignore[assignment]  # the same methods, on disk


@dataclass
class Traffic:
    """One round's devices and what they are called."""

    fleet: Fleet
    journal: Journal
    clock: VirtualClock
    members: Cast
    prefix: str

    @property
    def devices(self) -> dict[str, TortureDevice]:
        """Devices by role, `patient/label`."""
        roles = self.roles()
        return {roles[one.name]: one for one in self.fleet.devices if isinstance(one, TortureDevice)}

    def roles(self) -> dict[str, str]:
        """Device id to role, `patient/label`."""
        return {prop.device: f"{prop.player.role}/{prop.label}" for prop in self.members.props}

    def patients(self) -> dict[str, str]:
        """Patient id to role."""
        return {player.patient: player.role for player in self.members.players}

    def wall(self, seconds: float) -> float:
        """The machine's time at a virtual second of the round."""
        return self.clock.wall(self.clock.start + seconds)


def clock_at(wall: float, seconds: float = SECONDS, speed: float = SPEED) -> VirtualClock:
    """A clock for a round that begins at about `wall`, whose virtual start is a whole second."""
    early = VirtualClock.for_run(seconds, speed, wall)
    start = float(int(early.start))
    return VirtualClock(start, speed, wall - (early.start - start))


def enrol(registry: Registry, prefix: str, seed: int, since: float) -> Mapping[str, str]:
    """Register the people and devices of a round; the passwords."""
    early = VirtualClock.for_run(SECONDS, SPEED)
    return registry.enrol(cast(SCENARIO, early, prefix=prefix, seed=seed), since)


def prepare(
    passwords: Mapping[str, str], registry: Registry, catalogue: Catalogue, *, prefix: str, seed: int, begin: float,
    folder: Path, port: int,
) -> Traffic:  # fmt: skip
    """The fleet of a round, ready to run at the machine's time `begin`."""
    clock = clock_at(begin)
    shift = int(clock.start) - ORIGIN
    members = cast(SCENARIO, VirtualClock(ORIGIN, SPEED, begin), prefix=prefix, seed=seed)
    journal = Journal(folder / "journal.sqlite")
    devices: dict[str, TortureDevice] = {}
    for prop in members.props:
        device = TortureDevice(
            Account("127.0.0.1", port, prop.device, passwords[prop.device]), _firmware(catalogue, prop, shift), journal,
            patient=prop.player.patient, say_when=False, policy=PATIENCE,
        )  # fmt: skip
        if prop.given.numbered:
            device.keep_in(folder / f"{prop.device}.outbox")
        devices[prop.device] = device

    def chosen(event: EventOf) -> list[SimulatedDevice]:
        role, _, label = event.device.partition("/")
        return [
            devices[prop.device] for prop in members.props if prop.player.role == role and label in ("", prop.label)
        ]

    planned = actions(SCENARIO.events, chosen, clock, lambda *_: None)
    journal.note("start", clock.start)
    journal.note("players", {player.patient: player.role for player in members.players})
    return Traffic(Fleet(list(devices.values()), clock, SECONDS, journal, planned), journal, clock, members, prefix)


def _firmware(catalogue: Catalogue, prop: Prop, shift: int) -> ShiftedFirmware:
    person = prop.player.person
    return ShiftedFirmware(
        catalogue.kind(prop.kind), prop.given, person, stream(person.seed, prop.label), float(ORIGIN), shift_s=shift
    )


def at_times(traffic: Traffic, planned: list[tuple[float, Callable[[], None]]]) -> list[tuple[float, Action]]:
    """(virtual second, what to do) as the fleet wants it."""
    return [(traffic.clock.start + at, do) for at, do in planned]
