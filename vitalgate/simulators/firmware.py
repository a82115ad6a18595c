"""What a device of each kind does over time: when it measures, and the messages it makes of it.

Made from the catalogue: metrics of one cadence travel together, waveform channels in packets; what is taken now and
then (a blood pressure, a weight) as one group. A kind that was written today works here unchanged. Two ECG devices
record strips instead of streaming; that is in `STRIPS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.devices.catalogue import Channel, Kind, Metric
from vitalgate.devices.times import text as rfc3339
from vitalgate.simulators import signals
from vitalgate.simulators.heart import beats
from vitalgate.simulators.journal import Item, digest
from vitalgate.simulators.measure import Value, knows, measure, middle, quiet_code
from vitalgate.simulators.noise import stream, uniform
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.scenario import DeviceOf

#: Seconds of a strip, for kinds that record strips on demand.
STRIPS = {"ecg-handheld": 30.0, "ecg-12-lead": 10.0}
#: Seconds between measurements that a person takes, unless the scenario says otherwise.
TAKEN_EVERY = {
    "bp-cuff": 1800.0, "thermometer": 3600.0, "glucose-meter": 3600.0, "spirometer": 7200.0, "manual": 7200.0,
    "ecg-handheld": 3600.0, "ecg-12-lead": 7200.0,
}  # fmt: skip
_OTHERWISE_S = 1800.0
_STATUS_EVERY_S = 600.0
#: Metrics that go as one group, because they are one measurement.
_GROUPED = frozenset({"bp-cuff", "spirometer"})
_GAIN = {"ecg": 1000.0, "pleth": 10000.0, "respiration": 10000.0}
"""Raw units for 1 mV of ECG, or for 1 of the others."""
_CONTEXT = {"bp_systolic": {"position": "sitting"}, "bp_diastolic": {"position": "sitting"}}


@dataclass
class Emission:
    """One message, not yet numbered: the content, and what must become of each item."""

    at: float
    """Virtual time at which the device makes it."""
    leaf: str
    document: dict[str, Any]
    items: list[Item]
    note: str = ""
    raw: bytes | None = None
    """These bytes instead of the document (garbage)."""


@dataclass
class Firmware:
    """One device on one person; `emissions` makes its messages in order of time."""

    kind: Kind
    given: DeviceOf
    person: Person
    seed: int
    start: float
    """Virtual time at which it is switched on."""
    battery: float | None = None
    """Charge it shows from now on, percent; its own otherwise."""
    off: list[tuple[float, float]] = field(default_factory=list)
    """[start, stop) stretches in which the sensor is off the body, virtual times."""

    def emissions(self, stop: float) -> Iterator[Emission]:
        """Its messages up to virtual time `stop`, in order. Takes the person, the charge and `off` as they are then."""
        streams = [*self._reading_streams(stop), *self._waveform_streams(stop)]
        waiting = [(first, index) for index, one in enumerate(streams) if (first := next(one, None)) is not None]
        while waiting:
            waiting.sort(key=lambda pair: (pair[0].at, pair[1]))
            emission, index = waiting.pop(0)
            yield emission
            after = next(streams[index], None)
            if after is not None:
                waiting.append((after, index))

    # --- readings ----------------------------------------------------------------------------------------------------

    def _wanted(self) -> list[Metric]:
        only = set(self.given.metrics)
        return [m for m in self.kind.metrics.values() if m.name != "battery" and (not only or m.name in only)]

    def _reading_streams(self, stop: float) -> Iterator[Iterator[Emission]]:
        by_cadence: dict[float, list[Metric]] = {}
        metrics = self._wanted()
        taken = self.given.every or TAKEN_EVERY.get(self.kind.name, _OTHERWISE_S)
        fastest = min((m.cadence_s for m in metrics if m.cadence_s), default=taken)
        for metric in metrics:
            if self.kind.name in STRIPS:
                continue
            cadence = self.given.every or metric.cadence_s or (fastest if metric.name == "rr_interval" else taken)
            by_cadence.setdefault(cadence, []).append(metric)
        for cadence, together in by_cadence.items():
            yield self._readings(together, cadence, stop)
        if not self.given.metrics or "battery" in self.given.metrics:
            yield self._status(stop)

    def _phase(self, cadence: float) -> float:
        """When the first of a stream is due: devices do not all speak at once."""
        if self.given.first is not None:
            return self.given.first
        return min(cadence, 5.0) * float(uniform(stream(self.seed, "phase"), np.array([int(cadence * 10)]))[0])

    def _readings(self, metrics: Sequence[Metric], cadence: float, stop: float) -> Iterator[Emission]:
        at = self.start + self._phase(cadence)
        since = max(self.start, at - cadence)
        number = 0
        while at < stop:
            number += 1
            group = f"m{number}" if self.kind.name in _GROUPED else ""
            readings: list[dict[str, Any]] = []
            items: list[Item] = []
            for metric in metrics:
                for moment, value in self._values(metric, at, since):
                    reading, item = self.reading(metric, value, moment, group)
                    readings.append(reading)
                    items.append(item)
            if readings:
                yield Emission(at, "readings", {"readings": readings}, items)
            at, since = at + cadence, at

    def _values(self, metric: Metric, at: float, since: float) -> Iterator[tuple[float, Value]]:
        if metric.name == "rr_interval":
            times = beats(self.person, since - 6.0, at).time
            for before, beat in pairwise(times):
                if beat >= since:
                    yield float(beat), 1000 * float(beat - before)
        else:
            yield at, self.value(metric, at, since)

    def value(self, metric: Metric, at: float, since: float) -> Value:
        """What the sensor shows, in the canonical unit."""
        if metric.name == "battery" and self.battery is not None:
            return self.battery
        if knows(metric.name):
            return measure(self.person, metric.name, at, since)
        if metric.coded:
            return quiet_code({code: entry.unusual for code, entry in metric.codes.items()})
        low = None if math.isinf(metric.unusual_low) else metric.unusual_low
        high = None if math.isinf(metric.unusual_high) else metric.unusual_high
        if math.isinf(metric.low) or math.isinf(metric.high):
            return 0.0
        steady = 2 * float(uniform(stream(self.seed, metric.name), np.array([int(at)]))[0]) - 1
        return middle((metric.low, metric.high), low, high, steady)

    def reading(
        self, metric: Metric, value: Value, at: float, group: str = "", expect: str = "stored"
    ) -> tuple[dict[str, Any], Item]:
        """One reading as it travels, and as the journal expects it.

        Its number is rounded as the device would show it, in the unit that the device uses.
        """
        sensor_off = self.is_off(at)
        unit = self.given.units.get(metric.name, metric.unit)
        at_us = round(at * 1_000_000)
        reading: dict[str, Any] = {"metric": metric.name}
        number: float | None = None
        code: str | None = None
        if value is None or sensor_off:
            reading["absent"] = "error" if sensor_off else "temp-unknown"
        elif isinstance(value, str):
            code = reading["value"] = value
        else:
            number = self._shown(metric, value, unit)
            reading["value"] = number
        if unit:
            reading["unit"] = unit
        reading["time"] = self.time_text(at_us)
        site = self.given.site if self.given.site in metric.sites else ""
        if site:
            reading["site"] = site
        if group:
            reading["group"] = group
        if context := {k: v for k, v in _CONTEXT.get(metric.name, {}).items() if k in metric.contexts}:
            reading["context"] = context
        if sensor_off:
            reading["flags"] = ["sensor_off"]
        return reading, Item(expect, metric.name, site, at_us, 0, number, code, unit)

    def _shown(self, metric: Metric, value: float, unit: str) -> float:
        step = metric.resolution or 0.001
        value = min(max(value, metric.low), metric.high)
        if unit == metric.unit:
            digits = max(0, -math.floor(math.log10(step)))
            return round(round(value / step) * step, digits)
        there = metric.units[unit]
        return round((value - float(there.offset)) / float(there.factor), 2)

    def time_text(self, at_us: int) -> str:
        """A time as this device writes it, by its own clock."""
        return rfc3339(at_us + round(self.given.clock_ahead_s * 1_000_000))

    def is_off(self, at: float) -> bool:
        """Whether the sensor is off the body."""
        return any(begin <= at < end for begin, end in self.off)

    def _status(self, stop: float) -> Iterator[Emission]:
        at = self.start
        state = "online"
        while at < stop:
            at_us = round(at * 1_000_000)
            document: dict[str, Any] = {"state": state, "time": self.time_text(at_us)}
            charge = measure(self.person, "battery", at, at) if self.battery is None else self.battery
            if isinstance(charge, float):
                document["battery"] = round(charge)
            yield Emission(at, "status", document, [Item("stored", "status", time_us=at_us)])
            at += _STATUS_EVERY_S

    # --- waveforms ---------------------------------------------------------------------------------------------------

    def _waveform_streams(self, stop: float) -> Iterator[Iterator[Emission]]:
        if not self.given.waveforms or not self.kind.channels:
            return
        if self.kind.name in STRIPS:
            yield self._strips(self.given.strip_s or STRIPS[self.kind.name], stop)
        else:
            yield self._packets(stop)

    def _channels(self) -> list[Channel]:
        """All leads of a 12-lead device; lead II (else the first channel) of another."""
        channels = list(self.kind.channels.values())
        if self.kind.name == "ecg-12-lead":
            return channels
        return [next((channel for channel in channels if channel.name == "ecg.II"), channels[0])]

    def _packets(self, stop: float) -> Iterator[Emission]:
        channels = self._channels()
        rate = channels[0].rate
        packet_s = self.given.packet_s or 1.0
        count = max(1, round(packet_s * rate))
        begin = self.start + self._phase(1.0)
        recording = f"r{int(begin)}"
        first = 0
        while True:
            at = begin + float((first + count) / rate)
            if at >= stop:
                return
            blocks, items = self.blocks(channels, recording, begin, first, count)
            yield Emission(at, "waveforms", {"waveforms": blocks}, items)
            first += count

    def _strips(self, seconds: float, stop: float) -> Iterator[Emission]:
        every = self.given.every or TAKEN_EVERY[self.kind.name]
        channels = self._channels()
        begin = self.start + self._phase(every)
        number = 0
        while begin + seconds < stop:
            number += 1
            done = begin + seconds
            count = round(seconds * channels[0].rate)
            readings, items = [], []
            for metric in self._wanted():
                reading, item = self.reading(metric, self.value(metric, done, begin), done, f"e{number}")
                readings.append(reading)
                items.append(item)
            blocks, of_blocks = self.blocks(channels, f"s{int(begin)}", begin, 0, count)
            yield Emission(done, "waveforms", {"waveforms": blocks}, of_blocks)
            if readings:
                yield Emission(done, "readings", {"readings": readings}, items)
            begin += max(every, seconds)

    def blocks(
        self, channels: Sequence[Channel], recording: str, begin: float, first: int, count: int, expect: str = "stored"
    ) -> tuple[list[dict[str, Any]], list[Item]]:
        """One block of samples of each channel, as they travel and as the journal expects them."""
        rate = channels[0].rate
        at = begin + float(first / rate)
        at_us = round(begin * 1_000_000) + round(first * 1_000_000 / rate)
        sensor_off = self.is_off(at)
        raw = np.zeros((len(channels), count), np.int32) if sensor_off else self._raw(channels, begin, first, count)
        blocks: list[dict[str, Any]] = []
        items: list[Item] = []
        for channel, samples in zip(channels, raw, strict=True):
            block: dict[str, Any] = {
                "channel": channel.name, "recording": recording, "first_sample": first,
                "start": self.time_text(at_us),
                "rate": int(rate) if rate.denominator == 1 else str(rate),
                "gain": int(_GAIN[channel.name.partition(".")[0]]) if channel.name.partition(".")[0] in _GAIN else 1,
                "offset": 0, "unit": channel.unit, "samples": samples,
            }  # fmt: skip
            if sensor_off:
                block["flags"] = ["sensor_off"]
            blocks.append(block)
            items.append(
                Item(
                    expect, channel.name, "", at_us, 0, None, None, channel.unit, recording, first, count,
                    digest(samples.astype("<i4").tobytes()),
                )
            )  # fmt: skip
        return blocks, items

    def _raw(self, channels: Sequence[Channel], begin: float, first: int, count: int) -> NDArray[np.int32]:
        fs = float(channels[0].rate)
        name = channels[0].name
        if name.startswith("ecg."):
            leads = [signals_lead(channel.name) for channel in channels]
            return np.rint(signals.ecg(self.person, leads, begin, fs, first, count) * _GAIN["ecg"]).astype(np.int32)
        if name == "pleth":
            wave = signals.pleth(self.person, begin, fs, first, count)
            return np.rint(wave[None] * _GAIN["pleth"]).astype(np.int32)
        if name == "respiration":
            wave = signals.breath(self.person, begin, fs, first, count)
            return np.rint(wave[None] * _GAIN["respiration"]).astype(np.int32)
        # A channel nobody has described: a steady tone of a tenth of its rate, well inside any limit.
        time = np.arange(first, first + count)
        tone = np.rint(100 * np.sin(2 * np.pi * time / 10)).astype(np.int32)
        return np.tile(tone, (len(channels), 1))


def signals_lead(channel: str) -> str:
    """The lead that an ECG channel shows: a modified limb lead looks like the limb lead."""
    lead = channel.removeprefix("ecg.").removeprefix("M").replace("LII", "II")
    return lead if lead in signals.LEADS else "II"
