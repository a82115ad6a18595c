"""The analysis gives the same final beats and features however its samples arrive, and whenever it is restarted."""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.devices.records import Message, Waveform
from vitalgate.signal.beats import find_beats
from vitalgate.stream.analysis_beats import BeatsResult
from vitalgate.stream.analysis_core import AnalysisCore
from vitalgate.stream.analysis_features import FeatureResult
from vitalgate.stream.analysis_line import Packet, packet_of
from vitalgate.stream.analysis_records import beats_document, feature_document, read_beats, read_feature
from vitalgate.stream.analysis_state import Job

FS = 250
SECONDS = 75
START_US = 1_790_000_000_000_000


@functools.cache
def _ecg(seconds: float = SECONDS, seed: int = 3) -> np.ndarray:
    """Raw samples (200 a mV): R waves at a varying rate, with one pause of 3 s, on a little noise."""
    rng = np.random.default_rng(seed)
    n = int(seconds * FS)
    signal = rng.normal(0, 4, n)
    at = 0.5
    while at < seconds - 0.1:
        centre = at * FS
        where = np.arange(max(0, int(centre) - 30), min(n, int(centre) + 30))
        signal[where] += 250 * np.exp(-(((where - centre) / 4.0) ** 2))
        at += 3.0 if 40 < at < 41 else 0.8 + 0.05 * rng.standard_normal()
    return np.round(signal).astype("<i4")


def _message(first: int, samples: np.ndarray, seq: int) -> Message:
    block = Waveform(
        0, "ecg.II", "r1", first, len(samples), START_US + first * 1_000_000 // FS, FS, 1, 200.0, 0.0, "mV",
        samples.astype("<i4").tobytes(),
    )  # fmt: skip
    return Message("d1", "waveforms", seq, START_US, "t", "e", seq, 1, seq, False, 0, b"", b"", waveforms=[block])


def _split(samples: np.ndarray, edges: list[int]) -> list[Message]:
    cuts = [0, *sorted(set(edges)), len(samples)]
    pairs = [(a, b) for a, b in itertools.pairwise(cuts) if a < b]
    return [_message(a, samples[a:b], seq) for seq, (a, b) in enumerate(pairs)]


@dataclass(repr=False)
class World:
    """What has been published and stored, as topics and database would have it."""

    core: AnalysisCore = field(default_factory=AnalysisCore)
    beats: dict[int, BeatsResult] = field(default_factory=dict)
    features: dict[tuple[str, int], FeatureResult] = field(default_factory=dict)
    told: dict[tuple[str, int], FeatureResult] = field(default_factory=dict)
    """The newest record of every feature, also of those taken back."""
    stored: list[Packet] = field(default_factory=list)
    log: list[Message] = field(default_factory=list)

    def deliver(self, message: Message, *, partial: bool = False, op: str = "add") -> None:
        self.log.append(message)
        self.stored += [packet for w in message.waveforms if (packet := packet_of(message, w)) is not None]
        self.core.take("p1", message, op=op, partition=0, offset=len(self.log), partial=partial, now_us=len(self.log))
        self.work()

    def history(self, job: Job) -> list[Packet]:
        if job.complete:
            return []
        return sorted((p for p in self.stored if p.stop > job.first and p.first < job.stop), key=lambda p: p.order)

    def work(self) -> None:
        for job in self.core.jobs():
            beats, features = self.core.run(job, self.history(job))
            for result in beats:
                known = self.beats.get(result.number)
                assert known is None or result.revision > known.revision  # else readers would keep the older one
                self.beats[result.number] = result
            self.publish(features)
        self.publish(self.core.live())

    def publish(self, features: list[FeatureResult]) -> None:
        for feature in features:
            known = self.told.get(feature.identity)
            assert known is None or feature.revision > known.revision
            self.told[feature.identity] = feature
            if feature.withdrawn:
                self.features.pop(feature.identity, None)
            else:
                self.features[feature.identity] = feature

    def finish(self) -> None:
        self.core.go_idle(10**18)
        self.work()

    def restart(self, lookback: int) -> None:
        """As a killed worker comes back: the last packets, and what was published, are read again."""
        self.core = AnalysisCore()
        for number, message in list(enumerate(self.log, 1))[-lookback:]:
            self.core.take(
                "p1", message, op="add", partition=0, offset=number, partial=len(self.log) > lookback, now_us=number
            )
        for result in self.beats.values():
            self.core.restore(*read_beats(beats_document(result)), 0, result.revision)
        for feature in self.told.values():
            again = read_feature(feature_document(feature))
            assert again == feature
            self.core.restore_feature(again)
        self.work()

    def result(self) -> tuple[dict[int, object], dict[tuple[str, int], object]]:
        return (
            {number: result.digest for number, result in sorted(self.beats.items()) if result.block.present},
            {
                identity: (feature.value, feature.stop_sample, feature.start_us, feature.end_us, feature.provisional)
                for identity, feature in sorted(self.features.items())
            },
        )


def _once(samples: np.ndarray) -> World:
    world = World()
    world.deliver(_message(0, samples, 0))
    world.finish()
    return world


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return _ecg()


@functools.cache
def _undisturbed() -> World:
    return _once(_ecg())


@pytest.fixture(scope="module")
def undisturbed() -> World:
    return _undisturbed()


def _differences(world: World) -> list[object]:
    """What is not as in one pass; short, because Hypothesis prints it."""
    found: list[object] = []
    for one, other in zip(world.result(), _undisturbed().result(), strict=True):
        found += [
            (key, one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)
        ]
    return found[:3]


def test_beats_are_those_of_the_detector_on_the_whole_recording(samples: np.ndarray, undisturbed: World) -> None:
    [expected] = find_beats((samples / np.float32(200)).astype(np.float32), FS)
    found = [sample for result in undisturbed.beats.values() for sample, _, _, _ in result.beats]
    assert found == expected.tolist()
    assert len(found) > 80


def test_pause_rate_and_variability_are_found(undisturbed: World) -> None:
    names = {name for name, _ in undisturbed.features}
    assert {"heart_rate", "event.pause", "hrv_60s.rmssd", "hrv_60s.sdnn", "hrv_60s.rr_mean"} <= names
    [pause] = [feature for feature in undisturbed.features.values() if feature.name == "event.pause"]
    assert pause.value == pytest.approx(3.0, abs=0.1)
    rates = [feature.value for feature in undisturbed.features.values() if feature.name == "heart_rate"]
    assert all(rate is not None and 55 < rate < 85 for rate in rates)


def test_times_follow_from_the_packet_that_holds_the_beat(undisturbed: World) -> None:
    for result in undisturbed.beats.values():
        for sample, time_us, _, _ in result.beats:
            assert time_us == START_US + sample * 1_000_000 // FS


edges = st.lists(st.integers(1, SECONDS * FS - 1) | st.integers(1, 400), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(edges, st.integers(0, 10**6), st.floats(0, 1))
def test_any_split_and_order_gives_the_same(cuts: list[int], seed: int, disorder: float) -> None:
    rng = random.Random(seed)
    messages = _split(_ecg(), cuts)
    order = sorted(range(len(messages)), key=lambda i: i + disorder * len(messages) * rng.random())
    world = World()
    for i in order:
        world.deliver(messages[i])
        if rng.random() < 0.2:
            world.deliver(messages[i])  # delivered twice
        if rng.random() < 0.2:
            world.finish()  # goes quiet, and on again
    world.finish()
    assert _differences(world) == []


@settings(max_examples=25, deadline=None)
@given(edges, st.integers(0, 10**6), st.integers(1, 12))
def test_restarts_change_nothing(cuts: list[int], seed: int, lookback: int) -> None:
    rng = random.Random(seed)
    world = World()
    for message in _split(_ecg(), cuts):
        world.deliver(message, partial=True)
        if rng.random() < 0.3:
            world.restart(lookback)
    world.finish()
    assert _differences(world) == []


def test_a_correction_replaces_its_stretch_whatever_the_order(samples: np.ndarray) -> None:
    wrong = samples.copy()
    wrong[20 * FS : 25 * FS] = 0
    correction = _message(20 * FS, samples[20 * FS : 25 * FS], 1)
    late, early = World(), World()
    for message in (_message(0, wrong, 0), correction):
        late.deliver(message)
    late.finish()
    for message in (correction, _message(0, wrong, 0)):
        early.deliver(message)
    early.finish()
    assert late.result() == early.result() == _once(samples).result()


def test_what_a_quiet_recording_changes_has_a_revision_of_its_own() -> None:
    """A slow stretch over the edge of blocks is told once more when the recording goes quiet: no packet raises it."""
    slow = np.zeros(49 * FS, "<i4")
    at = FS // 2
    while at < len(slow) - 30:
        where = np.arange(at - 30, at + 30)
        slow[where] += np.round(250 * np.exp(-(((where - at) / 4.0) ** 2))).astype("<i4")
        at += round((0.9 if at < 23 * FS else 1.6) * FS)
    slow += np.round(np.random.default_rng(3).normal(0, 4, len(slow))).astype("<i4")
    world = World()
    for first in range(0, len(slow), FS):
        world.deliver(_message(first, slow[first : first + FS], first // FS))
    before = dict(world.features)
    world.finish()
    again = [feature for key, feature in world.features.items() if key in before and before[key] != feature]
    assert "event.bradycardia" in [feature.name for feature in again]
    assert all(feature.revision > before[feature.identity].revision for feature in again)


def test_a_gap_is_no_pause(samples: np.ndarray) -> None:
    world = World()
    world.deliver(_message(0, samples[: 30 * FS], 0))
    world.deliver(_message(36 * FS, samples[36 * FS : 60 * FS], 1))
    world.finish()
    pauses = [feature for feature in world.features.values() if feature.name == "event.pause"]
    assert [round(pause.value or 0) for pause in pauses] == [3]
    assert not any(name == "event.asystole" for name, _ in world.features)


def test_what_is_taken_from_a_patient_is_withdrawn(samples: np.ndarray) -> None:
    world = World()
    messages = [_message(a * FS, samples[a * FS : (a + 15) * FS], a) for a in range(0, 75, 15)]
    for message in messages:
        world.deliver(message)
    world.finish()
    assert world.features
    world.stored.clear()
    for message in messages:
        world.core.take("p1", message, op="remove", partition=0, offset=99, partial=False, now_us=99)
    world.core.go_idle(10**18)
    world.work()
    assert not world.features
    assert all(not result.beats and not result.block.present for result in world.beats.values())


def test_history_run_again_gives_every_block_once_more(samples: np.ndarray, undisturbed: World) -> None:
    world = _once(samples)
    world.beats.clear()
    world.core.take("p1", _message(0, samples, 0), op="add", partition=0, offset=9, partial=False, now_us=9, again=True)
    world.finish()
    assert _differences(world) == []
    assert {result.revision for result in world.beats.values()} == {9}


def test_when_the_completing_packet_arrived_is_known(samples: np.ndarray) -> None:
    core = AnalysisCore()
    message = _message(0, samples[: 20 * FS], 0)
    message.received_us = 77
    core.take("p1", message, op="add", partition=0, offset=1, partial=False, now_us=99)
    [key] = core._states
    assert core.received_us(key) == 77
    assert core.received_us(replace(key, patient="nobody")) == 0
    core.take("p1", message, op="add", partition=0, offset=2, partial=False, now_us=99, again=True)
    assert core.received_us(key) == 99, "what is run again is news of the day of the run"


def test_other_channels_and_units_are_left_alone() -> None:
    core = AnalysisCore()
    message = _message(0, _ecg(20), 0)
    message.waveforms[0].channel = "pleth"
    core.take("p1", message, op="add", partition=0, offset=1, partial=False, now_us=1)
    message.waveforms[0].channel, message.waveforms[0].unit = "ecg.II", "%"
    core.take("p1", message, op="add", partition=0, offset=1, partial=False, now_us=1)
    assert core.lines() == 0


def test_memory_is_bounded() -> None:
    world = World()
    samples = _ecg(700)
    for a in range(0, 700, 5):
        world.deliver(_message(a * FS, samples[a * FS : (a + 5) * FS], a))
    [state] = world.core._states.values()
    held = sum(packet.samples.nbytes for packet in state.line.packets)
    held += sum(
        block.beats.nbytes
        + block.kinds.nbytes
        + block.baseline.nbytes
        + (0 if block.forms is None else block.forms.nbytes)
        for block in state.blocks.values()
    )
    assert held < 320 * 1024
    world.core.go_idle(10**18)
    world.work()
    world.core.retire(10**18)
    assert world.core.lines() == 0
