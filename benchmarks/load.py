"""What the generator publishes: readings of oximeters as JSON, ECG packets of patches as CBOR, written beforehand.

Contents come from the simulators' model of a heart, so that samples pack, store and analyse as those of a person do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

import cbor2
import numpy as np
import orjson

from benchmarks.bed import Wearer
from vitalgate.config.topics import device_topic
from vitalgate.devices.codec import pack_samples
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.signals import ecg

RATE = 250
GAIN = 200
_PEOPLE, _SECONDS = 8, 60
_CORRECTED = 0.01


@dataclass(frozen=True)
class Message:
    """One message that is ready to be sent."""

    device: str
    seq: int
    topic: str
    payload: bytes
    readings: int = 0
    packets: int = 0


@dataclass
class Departures:
    """Hands messages to the generator and notes when each left."""

    messages: Iterable[Message]
    sent: dict[tuple[str, int], float] = field(default_factory=dict)
    """(device, seq) -> seconds since 1970."""

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for message in self.messages:
            self.sent[message.device, message.seq] = time.time()
            yield message.topic, message.payload


@lru_cache(maxsize=1)
def packed_seconds() -> tuple[tuple[bytes, ...], ...]:
    """For each of some people, the seconds of an ECG at 250 Hz, packed as a device packs them."""
    start = 1_700_000_000.0
    people = []
    for seed in range(_PEOPLE):
        signal = ecg(Person(seed + 1, start), ["II"], start, RATE, 0, _SECONDS * RATE)[0]
        raw = np.rint(signal * GAIN).astype(int).reshape(_SECONDS, RATE)
        people.append(tuple(pack_samples(second.tolist()) for second in raw))
    return tuple(people)


def packet(device: str, number: int, epoch: str, seq: int, start: datetime) -> Message:
    """The ECG of one second, the `number`-th of its recording, which began at `start`."""
    seconds = packed_seconds()[hash_of(device) % _PEOPLE]
    document = {
        "epoch": epoch,
        "seq": seq,
        "waveforms": [
            {
                "channel": "ecg.II",
                "recording": epoch,
                "first_sample": number * RATE,
                "start": (start + timedelta(seconds=number)).isoformat(),
                "rate": RATE,
                "gain": GAIN,
                "offset": 0,
                "unit": "mV",
                "samples": seconds[number % _SECONDS],
            }
        ],
    }
    return Message(device, seq, device_topic(device, "waveforms"), cbor2.dumps(document), packets=1)


def hash_of(device: str) -> int:
    """A number that is the same in every run."""
    return int.from_bytes(device.encode(), "big") % 1_000_003


def readings(device: str, epoch: str, seq: int, at: datetime, spo2: int, pulse: int) -> Message:
    """What an oximeter measures in one second: three readings."""
    time_ = at.isoformat()
    document = {
        "epoch": epoch,
        "seq": seq,
        "readings": [
            {"metric": "spo2", "value": spo2, "unit": "%", "time": time_},
            {"metric": "pulse_rate", "value": pulse, "unit": "/min", "time": time_},
            {"metric": "perfusion_index", "value": 2.5, "unit": "%", "time": time_},
        ],
    }
    return Message(device, seq, device_topic(device, "readings"), orjson.dumps(document), readings=3)


def _correction(device: str, epoch: str, seq: int, at: datetime, spo2: int) -> Message:
    item = {"metric": "spo2", "value": spo2, "unit": "%", "time": at.isoformat()}
    document = {"epoch": epoch, "seq": seq, "readings": [item]}
    return Message(device, seq, device_topic(device, "readings"), orjson.dumps(document), readings=1)


def cast(prefix: str, patches: int, oximeters: int) -> tuple[list[Wearer], list[Wearer]]:
    """Patients with an ECG patch, and others with an oximeter."""
    return (
        [Wearer(f"{prefix}-ep{n:04d}", f"{prefix}-e{n:04d}", "ecg-patch") for n in range(patches)],
        [Wearer(f"{prefix}-op{n:04d}", f"{prefix}-o{n:04d}", "pulse-oximeter") for n in range(oximeters)],
    )


def mixed(
    patches: Sequence[Wearer], oximeters: Sequence[Wearer], count: int, epoch: str, start: datetime, seed: int = 1
) -> list[Message]:
    """`count` messages: 80 % readings, 20 % ECG packets, 1 % corrections of the reading before.

    Devices take turns; each measures once a second from `start` on.
    """
    rng = random.Random(seed)  # noqa: S311 - contents, not secrets
    turn_p = turn_o = 0
    seq: dict[str, int] = {}
    latest: dict[str, tuple[datetime, int]] = {}
    out: list[Message] = []
    while len(out) < count:
        if len(out) % 5 == 4:
            turn, turn_p = turn_p, turn_p + 1
            device, number = patches[turn % len(patches)].device, turn // len(patches)
            seq[device] = number + 1
            out.append(packet(device, number, epoch, number + 1, start))
            continue
        device = oximeters[turn_o % len(oximeters)].device
        seq[device] = seq.get(device, 0) + 1
        if device in latest and rng.random() < _CORRECTED / 0.8:
            at, spo2 = latest[device]
            out.append(_correction(device, epoch, seq[device], at, 94 if spo2 != 94 else 95))
        else:
            at, spo2 = start + timedelta(seconds=turn_o // len(oximeters)), rng.randint(95, 99)
            latest[device] = at, spo2
            out.append(readings(device, epoch, seq[device], at, spo2, rng.randint(60, 85)))
        turn_o += 1
    return out


def span_s(count: int, patches: int, oximeters: int) -> float:
    """Event time that `mixed` covers, seconds."""
    return max(count * 0.2 / patches, count * 0.8 / oximeters) + 2


def recordings(wearers: Sequence[Wearer], seconds: int, epoch: str, start: datetime) -> Iterator[Message]:
    """Every patient's ECG, a packet a second each, in turns.

    Patients put their patches on at different moments, up to half an hour before `start`, so that their blocks do not
    end in the same second, nor lie alike on the detector's grid.
    """
    for second in range(seconds):
        for place, wearer in enumerate(wearers):
            age = place * 37 % 1800
            begin = start + timedelta(seconds=place / len(wearers) - age)
            yield packet(wearer.device, second + age, epoch, second + age + 1, begin)
