"""How many alarms a quiet day gives: stable simulated people, their devices' messages, and the rules as they run. Pure.

Each message is made by the simulated device, encoded, taken by intake, and judged by the alert engine with a tick each
ten seconds, on a clock of its own that starts at local midnight. The ECG of a patch is analysed for some hours of the
day only, another stretch for each wearer, so that all hours of the day are there: it costs far more than all else.
"""

from __future__ import annotations

import heapq
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vitalgate.alerts import rules
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent
from vitalgate.client.protocol import message
from vitalgate.config.settings import IntakeSettings
from vitalgate.config.topics import device_topic
from vitalgate.devices import catalogue
from vitalgate.devices import intake as intakes
from vitalgate.devices.codec import encode_cbor
from vitalgate.devices.raw import RawRecord, RegisteredDevice
from vitalgate.devices.records import DeviceSequences, PatientInput
from vitalgate.devices.sequences import begin
from vitalgate.scoring.alarm_path import take as take_features
from vitalgate.simulators import scenario as scenarios
from vitalgate.simulators.cast import Cast, Prop, cast
from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.firmware import Emission, Firmware
from vitalgate.simulators.noise import stream
from vitalgate.simulators.packing import ready
from vitalgate.stream.analysis_core import AnalysisCore
from vitalgate.stream.analysis_features import FeatureResult

#: The people and their devices.
FILE = Path(__file__).with_name("quiet_day.toml")
#: Local midnight of the simulated people (an hour ahead of UTC), seconds since 1970.
START = 1_790_031_600.0
DAY_S = 86400.0
#: The bar: nobody has more than this in a day.
LIMIT_PER_DAY = 1.0
_ON_THE_WAY_US = 50_000
_TICK_US = 10_000_000
_IDLE_US = 10_000_000
_PATCH = "ecg-patch"


@dataclass
class Day:
    """What came of it; adding joins the days of other people.

    Attributes
    ----------
    told
        (patient, rule, seconds from the first midnight to its onset, sentence) of each alarm that people were told of.
    untold
        Alerts that nobody was told of, by rule (suppressed, or over when they were found).
    """

    hours: float
    patients: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    readings: int = 0
    refused: int = 0
    ecg_hours: float = 0.0
    told: list[tuple[str, str, float, str]] = field(default_factory=list)
    untold: Counter[str] = field(default_factory=Counter)

    def add(self, other: Day) -> None:
        """Join."""
        self.patients += other.patients
        self.told += other.told
        self.kinds.update(other.kinds)
        self.untold.update(other.untold)
        self.messages += other.messages
        self.readings += other.readings
        self.refused += other.refused
        self.ecg_hours += other.ecg_hours

    @property
    def per_patient_day(self) -> float:
        """Alarms told per patient and day."""
        return len(self.told) / (len(self.patients) * self.hours / 24) if self.patients else 0.0

    @property
    def most(self) -> int:
        """Alarms of the patient who had most."""
        return max(Counter(patient for patient, *_ in self.told).values(), default=0)

    @property
    def good(self) -> bool:
        """Nobody had more than one alarm a day, and nothing that the devices sent was refused."""
        return self.most <= LIMIT_PER_DAY * max(1.0, self.hours / 24) and not self.refused

    def document(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "patients": len(self.patients), "hours": self.hours, "devices": self.kinds.total(),
            "kinds": dict(sorted(self.kinds.items())), "messages": self.messages, "readings": self.readings,
            "refused": self.refused, "ecg_hours": round(self.ecg_hours, 2), "alarms": len(self.told),
            "alarms_per_patient_day": round(self.per_patient_day, 4), "most_of_one_patient": self.most,
            "by_rule": dict(Counter(rule for _, rule, *_ in self.told).most_common()),
            "not_told": dict(self.untold.most_common()), "good": self.good,
            "told": [
                {"patient": patient, "rule": rule, "at_h": round(at / 3600, 3), "text": text}
                for patient, rule, at, text in sorted(self.told, key=lambda one: one[2])
            ],
        }  # fmt: skip


def quiet_day(
    *, patients: int = 50, hours: float = 24.0, ecg_hours: float = 2.0, seed: int = 1, begin_h: float = 0.0,
    processes: int = 1,
) -> Day:  # fmt: skip
    """Simulate it.

    Parameters
    ----------
    patients
        How many people, 1 to 50: of each sort its share.
    ecg_hours
        Hours of ECG that are analysed of each who wears a patch.
    begin_h
        Local hour at which it begins.
    processes
        People are independent of one another, and so can be worked out side by side.
    """
    members = people(patients, seed)
    groups = [members[at :: max(1, processes)] for at in range(max(1, processes))]
    start = START + begin_h * 3600
    run = partial(_day, seed=seed, start=start, hours=hours, ecg_hours=ecg_hours)
    day = Day(hours)
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            found: Iterable[Day] = list(pool.map(run, groups))
    else:
        found = map(run, groups)
    for part in found:
        day.add(part)
    return day


def people(count: int, seed: int) -> list[str]:
    """Ids of so many of the people, evenly over the sorts."""
    everybody = [player.patient for player in _everybody(seed).players]
    return [everybody[number * len(everybody) // count] for number in range(min(count, len(everybody)))]


def _everybody(seed: int, start: float = START) -> Cast:
    kinds = catalogue.load().kinds
    scenario = scenarios.check(tomllib.loads(FILE.read_text(encoding="utf-8")), FILE.name, kinds)
    return cast(scenario, VirtualClock(start, 1.0, start), prefix="quiet", seed=seed)


def _day(members: Sequence[str], *, seed: int, start: float, hours: float, ecg_hours: float) -> Day:
    everybody = _everybody(seed, start)
    wanted = set(members)
    props = [prop for prop in everybody.props if prop.player.patient in wanted]
    house = _House(props, start, hours)
    order = {player.patient: number for number, player in enumerate(everybody.players)}
    streams = [
        _emissions(prop, start, hours, ecg_hours, order[prop.player.patient] / len(order)) for prop in props
    ]  # fmt: skip
    for at, _, prop, emission in heapq.merge(*streams, key=lambda one: (one[0], one[1])):
        house.take(at, prop, emission)
    return house.end()


def _emissions(
    prop: Prop, start: float, hours: float, ecg_hours: float, place: float
) -> Iterator[tuple[float, str, Prop, Emission]]:
    """A device's messages; of a patch the ECG of its stretch of the day beside what it measures all day."""
    kind = catalogue.load().kind(prop.kind)
    own = stream(prop.player.person.seed, prop.label)
    stop = start + hours * 3600
    given = prop.given
    firmwares = [(Firmware(kind, given, prop.player.person, own, start), stop)]
    if prop.kind == _PATCH:
        firmwares[0] = (Firmware(kind, given.model_copy(update={"waveforms": False}), *_who(prop, own), start), stop)
        length = min(ecg_hours, hours)
        begin = start + place * (hours - length) * 3600
        alone = given.model_copy(update={"metrics": ["battery"]})
        if length > 0:
            firmwares.append((Firmware(kind, alone, *_who(prop, own), begin), begin + length * 3600))
    both = [firmware.emissions(until) for firmware, until in firmwares]
    for emission in heapq.merge(*both, key=lambda one: one.at):
        yield emission.at, prop.device, prop, emission


def _who(prop: Prop, own: int) -> tuple[Any, int]:
    return prop.player.person, own


class _House:
    """The system's parts for some people: intake, analysis, alert engine; and what they said."""

    def __init__(self, props: Sequence[Prop], start: float, hours: float) -> None:
        self.start = start
        self.day = Day(hours, sorted({prop.player.patient for prop in props}), Counter(prop.kind for prop in props))
        self.catalogue, self.settings = catalogue.load(), IntakeSettings()
        self.core, self.engine = AnalysisCore(), Engine(rules.load(), "care")
        self.states: dict[str, DeviceSequences | None] = {}
        self.seq: Counter[str] = Counter()
        self.stories: dict[str, list[AlertEvent]] = {}
        self.ticked = self.looked = round(start * 1e6)
        self.samples = False
        start_us = round(start * 1e6)
        for patient in self.day.patients:
            zone = next(prop.player.zone for prop in props if prop.player.patient == patient)
            self.engine.patient_changed(patient, "care", {}, start_us, ((0, zone),))
            worn: dict[str, list[tuple[int, int | None]]] = {
                prop.device: [(start_us, None)] for prop in props
                if prop.player.patient == patient and prop.kind in self.engine.book.devices
            }  # fmt: skip
            self._note(self.engine.devices_changed(patient, worn, start_us))

    def take(self, at: float, prop: Prop, emission: Emission) -> None:
        """One message, as it arrives."""
        now = round(at * 1e6) + _ON_THE_WAY_US
        self._pass(now)
        self.seq[prop.device] += 1
        payload = message(encode_cbor(ready(emission.document, "cbor")), "quiet", self.seq[prop.device], None)
        raw = RawRecord(0, self.day.messages, payload, device_topic(prop.device, emission.leaf), now)
        state = self.states.get(prop.device)
        taken, self.states[prop.device] = intakes.take(
            raw, RegisteredDevice(prop.device, prop.kind), None if state is None else begin(state), self.catalogue,
            self.settings,
        )  # fmt: skip
        self.day.messages += 1
        self.day.readings += len(taken.readings)
        self.day.refused += len(taken.dead)
        if taken.waveforms and prop.kind == _PATCH:
            self.samples = True
            block = taken.waveforms[0]
            self.day.ecg_hours += block.count * block.rate_den / block.rate_num / 3600
        self.core.take(
            prop.player.patient, taken, op="add", partition=0, offset=raw.offset, partial=False, now_us=now
        )  # fmt: skip
        self._note(self.engine.take(PatientInput("add", prop.player.patient, taken), now))

    def end(self) -> Day:
        """The rest of the day, and the reckoning."""
        self._pass(round((self.start + self.day.hours * 3600) * 1e6))
        for story in self.stories.values():
            first = story[0]
            if any(event.notify for event in story):
                since = first.onset.timestamp() - START
                self.day.told.append((first.patient, first.rule, since, first.text))
            else:
                self.day.untold[first.rule] += 1
        return self.day

    def _pass(self, now: int) -> None:
        """Time goes by: analysis each second in which samples came, ticks each ten."""
        if now - self.looked >= 1_000_000:
            self.looked = now
            if self.samples:
                self._analyse(now)
        while now - self.ticked >= _TICK_US:
            self.ticked += _TICK_US
            self.core.go_idle(self.ticked - _IDLE_US)
            self._analyse(self.ticked)
            self._note(self.engine.tick(self.ticked, self.ticked))

    def _analyse(self, now: int) -> None:
        self.samples = False
        features: list[FeatureResult] = []
        if jobs := self.core.jobs():
            features = self.core.run_together([(job, []) for job in jobs])[1]
        self._note(take_features(self.engine, [*features, *self.core.live()], now))

    def _note(self, events: Iterable[AlertEvent]) -> None:
        for event in events:
            self.stories.setdefault(event.alert_id, []).append(event)
