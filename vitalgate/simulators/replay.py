"""Recordings sent as an ECG device would send them: in packets, at any speed, bit for bit."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitalgate.client.protocol import Policy
from vitalgate.devices.catalogue import Catalogue, Kind
from vitalgate.simulators.cast import Cast, Player, Prop
from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.device import Account, SimulatedDevice
from vitalgate.simulators.firmware import Emission, Firmware
from vitalgate.simulators.fleet import Fleet
from vitalgate.simulators.journal import Item, Journal, digest
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.recordings import Recording, RecordingError
from vitalgate.simulators.scenario import DeviceOf

#: Kinds tried first for a recording; any other of the catalogue after them.
_PREFERRED = ("ecg-patch", "ecg-12-lead", "ecg-handheld")
PACKET_S = 10.0
_CONTEXT_S = 1.0


@dataclass(frozen=True)
class Part:
    """One recording and the device that sends it."""

    recording: Recording
    """With those channels that the device's kind has."""
    kind: str
    prop: Prop
    left_out: tuple[str, ...]
    """Leads that no kind has."""


def kind_for(recording: Recording, catalogue: Catalogue) -> tuple[Kind, Recording, tuple[str, ...]]:
    """The kind of device that could have made a recording, and what it can send of it.

    Returns
    -------
    The kind with most of its channels at its rate, the recording with these channels, and the leads left out.

    Raises
    ------
    RecordingError
        When no kind has any of its channels at its rate.
    """
    order = [name for name in _PREFERRED if name in catalogue.kinds]
    order += [name for name in catalogue.kinds if name not in order]
    best: tuple[Kind, tuple[Any, ...]] | None = None
    for name in order:
        kind = catalogue.kind(name)
        fits = tuple(
            channel
            for channel in recording.channels
            if (known := kind.channels.get(channel.name)) and known.rate_min <= recording.rate <= known.rate_max
        )
        if fits and (best is None or len(fits) > len(best[1])):
            best = kind, fits
    if best is None:
        leads = ", ".join(channel.lead for channel in recording.channels)
        raise RecordingError(
            f"{recording.name}: no kind of device has the leads {leads} at {float(recording.rate):g} Hz;"
            " `vitalgate device kinds` shows what there is"
        )
    kind, fits = best
    left_out = tuple(channel.lead for channel in recording.channels if channel not in fits)
    return kind, replace(recording, channels=fits), left_out


@dataclass
class ReplayFirmware(Firmware):
    """Sends a recording instead of measuring a person."""

    recording: Recording | None = None

    def emissions(self, stop: float) -> Iterator[Emission]:
        """Packets of all channels, each made when its last sample has been taken."""
        recording = self.recording
        assert recording is not None
        size = max(1, round((self.given.packet_s or PACKET_S) * recording.rate))
        for first in range(0, recording.count, size):
            count = min(size, recording.count - first)
            at = self.start + float((first + count) / recording.rate)
            at_us = round(self.start * 1_000_000) + round(first * 1_000_000 / recording.rate)
            blocks: list[dict[str, Any]] = []
            items: list[Item] = []
            for channel in recording.channels:
                samples = channel.samples[first : first + count]
                rate = recording.rate
                blocks.append(
                    {
                        "channel": channel.name, "recording": recording.name, "first_sample": first,
                        "start": self.time_text(at_us), "rate": int(rate) if rate.denominator == 1 else str(rate),
                        "gain": channel.gain, "offset": channel.offset, "unit": channel.unit,
                        "samples": samples,
                    }
                )  # fmt: skip
                items.append(
                    Item(
                        "stored", channel.name, "", at_us, 0, None, None, channel.unit, recording.name, first, count,
                        digest(np.ascontiguousarray(samples, "<i4").tobytes()),
                    )
                )  # fmt: skip
            yield Emission(at, "waveforms", {"waveforms": blocks}, items)


def parts_of(
    recordings: Sequence[Recording], catalogue: Catalogue, *, prefix: str, team: str, packet_s: float = PACKET_S
) -> list[Part]:
    """A patient and a device for each recording. Raises RecordingError when one cannot be sent at all."""
    parts = []
    for recording in recordings:
        kind, fitting, left_out = kind_for(recording, catalogue)
        player = Player(f"{prefix}-{recording.name}", recording.name, 1, team, "Etc/UTC", Person(0))
        given = DeviceOf.model_validate({"kind": kind.name, "wire": "cbor", "packet_s": packet_s})
        prop = Prop(f"{prefix}-{recording.name}-{kind.name}", kind.name, kind.name, player, given)
        parts.append(Part(fitting, kind.name, prop, left_out))
    return parts


def members_of(parts: Sequence[Part]) -> Cast:
    """The patients and devices to register."""
    return Cast(tuple(part.prop.player for part in parts), tuple(part.prop for part in parts))


def seconds_of(parts: Sequence[Part]) -> float:
    """How long the longest lasts."""
    return max(part.recording.seconds for part in parts) + _CONTEXT_S


def assemble_replay(
    parts: Sequence[Part], passwords: Mapping[str, str], clock: VirtualClock, journal: Journal, catalogue: Catalogue,
    *, host: str, port: int, tls: ssl.SSLContext | None = None, policy: Policy | None = None,
) -> Fleet:  # fmt: skip
    """The fleet that sends the recordings, all starting together."""
    devices = [
        SimulatedDevice(
            Account(host, port, part.prop.device, passwords[part.prop.device], tls),
            ReplayFirmware(
                catalogue.kind(part.kind), part.prop.given, part.prop.player.person, 0, clock.start,
                recording=part.recording,
            ),
            journal, patient=part.prop.player.patient, say_when=not clock.accelerated, policy=policy,
        )
        for part in parts
    ]  # fmt: skip
    journal.note("start", clock.start)
    journal.note("speed", clock.speed)
    return Fleet(devices, clock, seconds_of(parts), journal)
