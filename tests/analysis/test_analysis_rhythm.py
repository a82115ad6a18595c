"""Every kind of rhythm event comes out of the analysis, the same however the samples arrive; urgent ones come early."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.test_analysis_core import FS, World, _message, _split
from vitalgate.stream.analysis_block import CELLS, Block
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_features import FeatureResult, event_features
from vitalgate.stream.analysis_line import Key, Line, Packet

SECONDS = 460
#: Without P waves, and a fine ripple in their place.
FIBRILLATES = (240, 400)


def _wave(centre: float, wide: bool) -> list[tuple[float, float, float]]:
    """(place, height, width) of the bumps of a beat, seconds and mV."""
    if wide:
        return [(centre, -1.2, 0.045), (centre + 0.04, 0.9, 0.05), (centre + 0.34, 0.5, 0.06)]
    return [(centre - 0.17, 0.12, 0.02), (centre, 1.1, 0.012), (centre + 0.26, 0.25, 0.04)]


def _plan() -> tuple[list[tuple[float, bool]], list[tuple[float, float]]]:
    """Beats (time, ventricular) and stretches of ventricular fibrillation."""
    rng = np.random.default_rng(11)
    beats: list[tuple[float, bool]] = []
    at = 0.6

    def add(step: float, wide: bool = False) -> None:
        nonlocal at
        at += step
        beats.append((at, wide))

    while at < 70:
        add(0.8 + 0.02 * rng.standard_normal())
    for _ in range(5):  # bigeminy
        add(0.5, wide=True)
        add(1.1)
    for _ in range(12):
        add(0.8)
    for _ in range(8):  # a run of tachycardia
        add(0.42, wide=True)
    add(1.0)
    while at < 110:
        add(0.8 + 0.02 * rng.standard_normal())
    add(3.2)  # a pause
    while at < 140:
        add(0.8 + 0.02 * rng.standard_normal())
    waves = [(at + 0.6, at + 15.0)]
    at += 15.0
    while at < 190:
        add(0.8 + 0.02 * rng.standard_normal())
    at += 17.0  # the heart stands still
    while at < 240:
        add(0.8 + 0.02 * rng.standard_normal())
    while at < 400:  # atrial fibrillation
        add(max(0.34, 0.66 * np.exp(0.24 * rng.standard_normal())))
    while at < SECONDS - 2:
        add(0.8 + 0.02 * rng.standard_normal())
    return beats, waves


@functools.cache
def _ecg() -> np.ndarray:
    rng = np.random.default_rng(5)
    t = np.arange(SECONDS * FS) / FS
    x = 0.012 * rng.standard_normal(len(t)) + 0.05 * np.sin(2 * np.pi * 0.27 * t)
    beats, waves = _plan()
    for at, wide in beats:
        for centre, height, width in _wave(at, wide)[1 if FIBRILLATES[0] < at < FIBRILLATES[1] else 0 :]:
            near = slice(max(0, int((centre - 5 * width) * FS)), int((centre + 5 * width) * FS) + 1)
            x[near] += height * np.exp(-0.5 * ((t[near] - centre) / width) ** 2)
    near = slice(FIBRILLATES[0] * FS, FIBRILLATES[1] * FS)
    x[near] += 0.05 * np.sin(2 * np.pi * (6.1 * t[near] + 0.5 * np.sin(2 * np.pi * 0.4 * t[near])))
    for begin, end in waves:
        near = slice(int(begin * FS), int(end * FS))
        x[near] += 0.45 * np.sin(2 * np.pi * (4.6 * t[near] + 0.3 * np.sin(2 * np.pi * 0.3 * t[near])))
    return np.round(x * 200).astype("<i4")


@functools.cache
def _undisturbed() -> World:
    world = World()
    world.deliver(_message(0, _ecg(), 0))
    world.finish()
    return world


def _events(world: World, name: str) -> list[tuple[float, float, float | None]]:
    """(from, to, value) of the pieces of an event, seconds, those that touch joined."""
    joined: list[tuple[float, float, float | None]] = []
    for feature in sorted(world.features.values(), key=lambda f: f.first_sample):
        if feature.name == f"event.{name}":
            begin, end = feature.first_sample / FS, feature.stop_sample / FS
            if joined and joined[-1][1] >= begin and name != "pause":
                joined[-1] = (joined[-1][0], end, feature.value)
            else:
                joined.append((begin, end, feature.value))
    return joined


def test_every_event_is_where_it_was_put() -> None:
    world = _undisturbed()
    beats, [(begin, end)] = _plan()
    wide = [at for at, ventricular in beats if ventricular]
    [pause, *_] = [event for event in _events(world, "pause") if event[2] is not None and event[2] < 4]
    assert 110 < pause[0] < 113 and pause[2] == pytest.approx(3.2, abs=0.1)
    [vf] = _events(world, "vf")
    assert vf[0] == pytest.approx(begin, abs=2.5) and vf[1] == pytest.approx(end, abs=2.5)
    [asystole] = _events(world, "asystole")
    assert 189 < asystole[0] < 192 and 13 < asystole[1] - asystole[0] < 18
    [vt] = _events(world, "vt")
    assert vt[0] == pytest.approx(wide[5], abs=0.1) and vt[1] == pytest.approx(wide[-1], abs=0.1)
    assert vt[2] == pytest.approx(60 / 0.42, rel=0.05)
    [bigeminy] = _events(world, "bigeminy")
    assert bigeminy[0] == pytest.approx(wide[0], abs=1.2)
    [af] = _events(world, "af")
    assert af[0] == pytest.approx(240, abs=15) and af[1] == pytest.approx(400, abs=15)


def test_burden_counts_and_quality() -> None:
    world = _undisturbed()
    burden = {first / FS: f.value for (name, first), f in world.features.items() if name == "af.burden"}
    assert set(burden) == {0, 300}
    assert 15 <= (burden[0] or 0) <= 35 and 55 <= (burden[300] or 0) <= 75
    counts = [f.value for (name, first), f in world.features.items() if name == "pvc.count" and first == 60 * FS]
    assert len(counts) == 1 and 11 <= (counts[0] or 0) <= 15
    quality = {f.first_sample // FS: (f.value, f.reason) for (n, _), f in world.features.items() if n == "quality"}
    assert len(quality) == SECONDS // 10 and quality[0] == (1.0, None)


def _differences(world: World) -> list[object]:
    found: list[object] = []
    for one, other in zip(world.result(), _undisturbed().result(), strict=True):
        found += [
            (key, one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)
        ]
    return sorted(found, key=repr)[:3]


edges = st.lists(st.integers(1, SECONDS * FS - 1), min_size=8, max_size=60)


@settings(max_examples=6, deadline=None)
@given(edges, st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_any_order_gives_the_same(cuts: list[int], seed: int, disorder: float) -> None:
    rng = random.Random(seed)
    messages = _split(_ecg(), cuts)
    order = sorted(range(len(messages)), key=lambda i: i + disorder * len(messages) * rng.random())
    world = World()
    for i in order:
        world.deliver(messages[i])
        if rng.random() < 0.1:
            world.finish()
    world.finish()
    assert _differences(world) == []


@settings(max_examples=5, deadline=None)
@given(edges, st.integers(0, 10**6), st.integers(1, 30), st.booleans())
def test_restarts_change_nothing(cuts: list[int], seed: int, lookback: int, late: bool) -> None:
    rng = random.Random(seed)
    world = World()
    messages = _split(_ecg(), cuts)
    if late:
        messages.append(messages.pop(rng.randrange(len(messages))))
    for message in messages:
        world.deliver(message, partial=True)
        if rng.random() < 0.15:
            world.restart(lookback)
    world.finish()
    assert _differences(world) == []


def test_a_late_packet_of_long_ago_changes_what_hangs_on_it() -> None:
    samples = np.concatenate([_ecg(), _ecg(), _ecg()])
    pieces = [_message(a, samples[a : a + 5 * FS], n) for n, a in enumerate(range(0, len(samples), 5 * FS))]
    missing = pieces.pop(45)  # in the middle of the first asystole, an hour's third ago
    late, whole = World(), World()
    for message in [*pieces, missing]:
        late.deliver(message)
    late.finish()
    whole.deliver(_message(0, samples, 0))
    whole.finish()
    for one, other in zip(late.result(), whole.result(), strict=True):
        different = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
        assert sorted(different, key=repr) == []


def _told(samples: np.ndarray, name: str, onset_s: float) -> float:
    """Seconds of signal after the onset when the event was first told, in packets of a second."""
    world = World()
    heard: list[FeatureResult] = []
    publish = world.publish

    def listen(features: list[FeatureResult]) -> None:
        heard.extend(f for f in features if f.name == f"event.{name}" and not f.withdrawn)
        publish(features)

    world.publish = listen  # type: ignore[method-assign]  # listens in
    for second in range(len(samples) // FS):
        world.deliver(_message(second * FS, samples[second * FS : (second + 1) * FS], second))
        if heard:
            assert heard[0].provisional
            return second + 1 - onset_s
    raise AssertionError(f"{name} was never told")


def test_urgent_events_come_early() -> None:
    beats, [(begin, _)] = _plan()
    last = max(at for at, _ in beats if at < 195)
    wide = [at for at, ventricular in beats if ventricular]
    assert _told(_ecg()[: 215 * FS], "asystole", last) <= 4 + 3
    assert _told(_ecg()[: 165 * FS], "vf", begin) <= 5 + 3.5
    assert _told(_ecg()[: 100 * FS], "vt", wide[7]) <= 3


def test_nothing_urgent_is_told_of_a_quiet_heart() -> None:
    world = World()
    samples = _ecg()[: 68 * FS]
    for second in range(68):
        world.deliver(_message(second * FS, samples[second * FS : (second + 1) * FS], second))
        assert not any(feature.provisional for feature in world.features.values())


def test_what_was_provisional_is_final_or_gone() -> None:
    world = World()
    samples = _ecg()
    early = 0
    for second in range(SECONDS):
        world.deliver(_message(second * FS, samples[second * FS : (second + 1) * FS], second))
        early += any(feature.provisional for feature in world.features.values())
    world.finish()
    assert early > 20
    assert _differences(world) == []


def _events_of_run(quality: str, provisional: bool) -> set[str]:
    """Names of the events of three blocks of which the middle one, of this quality, has a run of ventricular beats."""
    beats = np.concatenate([np.arange(100, 10 * FS, 200), np.arange(10 * FS + 50, 10 * FS + 8 * 100, 100)])
    beats = np.concatenate([beats, np.arange(int(14.2 * FS), 30 * FS, 200)])
    kinds = np.where((beats >= 10 * FS) & (beats < 14 * FS), "V", "N")
    near = {}
    for number in range(3):
        inside = (beats >= number * 10 * FS) & (beats < (number + 1) * 10 * FS)
        near[number] = Block(
            beats[inside], kinds[inside], ((0, 10 * FS),), quality if number == 1 else "good", None, True, (),
            np.zeros(CELLS, np.int16), None,
        )  # fmt: skip
    key = Key("p1", "d1", "ecg.II", "r1", FS, 1)
    line = Line(key)
    line.add(Packet(0, 30 * FS, (1, 1, 0), 0, np.zeros(30 * FS, np.float32)))
    found = event_features(key, range(3), near, BlockClock(line, {}), 1, provisional=provisional)
    return {feature.name for feature in found}


def test_on_bad_signal_nothing_is_told_that_hangs_on_the_class_of_a_beat() -> None:
    assert "event.vt" in _events_of_run("good", False) & _events_of_run("usable", False)
    assert _events_of_run("bad", False) == set()
    assert _events_of_run("bad", True) == set(), "nor early"
