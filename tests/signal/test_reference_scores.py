"""Scores on reference recordings, with floors a little under what is reached: a loss of accuracy fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitalgate.signal.beats import AFTER_S, BEFORE_S, find_beats
from vitalgate.signal.quality import Grade, signal_quality
from vitalgate.signal.scoring import BeatScore, gross, match_beats


def record_names(data: Path, folder: str) -> list[str]:
    return sorted(f"{folder}/{header.stem}" for header in (data / folder).glob("*.hea"))


def score(recording: Callable[..., tuple], name: str) -> BeatScore:
    ecg, fs, truth, flutter = recording(name)
    return match_beats(truth, find_beats(ecg, fs)[0], fs, exclude=flutter).score


@pytest.mark.timeout(120)
def test_mit_bih(data: Path, recording: Callable[..., tuple]) -> None:
    pooled = gross(score(recording, name) for name in record_names(data, "mitdb"))
    assert pooled.tp + pooled.fn > 54_000
    assert pooled.f1 >= 0.9988, pooled


@pytest.mark.parametrize(("decibel", "floor"), [("24", 0.998), ("18", 0.99), ("12", 0.983), ("06", 0.932)])
def test_noise_stress(data: Path, recording: Callable[..., tuple], decibel: str, floor: float) -> None:
    names = [name for name in record_names(data, "nstdb") if name.endswith(f"e{decibel}")]
    if not names:
        pytest.skip("no noise stress records")
    pooled = gross(score(recording, name) for name in names)
    assert pooled.f1 >= floor, pooled


def test_twelve_leads(data: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    if not (data / "ludb").is_dir():
        pytest.skip("no LUDB")
    scores = []
    for header in sorted((data / "ludb").glob("*.hea"))[:40]:
        record = wfdb.rdrecord(str(header.with_suffix("")))
        notes = wfdb.rdann(str(header.with_suffix("")), "ii")
        truth = np.array([at for at, symbol in zip(notes.sample, notes.symbol, strict=True) if symbol == "N"])
        found = find_beats(record.p_signal[:, 1].astype(np.float32), record.fs)[0]
        # Only what lies between the first and the last wave is annotated.
        found = found[(found > truth[0] - 0.15 * record.fs) & (found < truth[-1] + 0.15 * record.fs)]
        scores.append(match_beats(truth, found, record.fs).score)
    assert gross(scores).f1 >= 0.995, gross(scores)


def test_a_real_record_streams_exactly(recording: Callable[..., tuple]) -> None:
    ecg, fs, _, _ = recording("mitdb/208")
    ecg = ecg[: int(300 * fs)]
    whole = find_beats(ecg, fs)[0]
    parts = []
    for start in range(0, len(ecg), 3600):
        low, high = max(0, start - int(BEFORE_S * fs)), start + 3600 + int(AFTER_S * fs)
        parts.append(find_beats(ecg[low:high], fs, low, start, start + 3600)[0])
    assert np.array_equal(np.concatenate(parts), whole)


def test_quality_of_clean_and_noisy(data: Path, recording: Callable[..., tuple]) -> None:
    clean = [s.grade for name in record_names(data, "mitdb") for s in signal_quality(*recording(name)[:2])[0]]
    assert clean.count(Grade.BAD) / len(clean) <= 0.02
    ecg, fs, _, _ = recording("nstdb/118e_6")
    # After five minutes two noisy minutes and two clean ones in turn.
    noisy = [s.grade for s in signal_quality(ecg, fs)[0] if s.onset >= 300 * fs and (s.onset / fs - 300) % 240 < 110]
    assert noisy.count(Grade.GOOD) / len(noisy) <= 0.05
