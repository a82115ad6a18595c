"""Atrial fibrillation in windows of exactly 30 beats: reference RR on AFDB, our own beats on MIT-BIH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.beats import percent
from vitalgate.scoring.databases import Database
from vitalgate.scoring.examples import WINDOW_BEATS, Windows, found_beats, windows
from vitalgate.signal.fibrillation import fibrillation, fibrillation_of_beats
from vitalgate.signal.quality import Grade, signal_quality


def score_fibrillation(folder: Path) -> dict[str, Any]:
    """The ``af`` part of the document, of an AFDB or MIT-BIH folder."""
    own = databases.recognise(folder) is not Database.AFDB
    records: dict[str, Any] = {}
    pooled = np.zeros(4, np.int64)
    left_out = withheld = 0
    for name in databases.names(folder):
        if own:
            recording = databases.read_recording(folder, name)
            found = found_beats(recording)
            cut = windows(found.beats, recording.fs, recording.rhythms)
            shares = fibrillation_of_beats(recording.signals, recording.fs, found.beats)
            hold = _on_bad_signal(recording.signals[0], recording.fs, cut)
        else:
            intervals = databases.read_intervals(folder, name)
            cut = windows(intervals.beats, intervals.fs, intervals.rhythms)
            shares = fibrillation(intervals.beats, intervals.fs)
            hold = np.zeros(len(cut.rr), np.bool_)
        said = shares.positive
        # A withheld window counts as a miss: of fibrillation when it was, as a false alarm when it was not.
        right = (said == cut.af) & ~hold
        use = ~cut.flutter
        counts = np.array(
            [(right & cut.af & use).sum(), (~right & cut.af & use).sum(),
             (right & ~cut.af & use).sum(), (~right & ~cut.af & use).sum()]
        )  # fmt: skip
        pooled += counts
        left_out += int(cut.flutter.sum())
        withheld += int((hold & use).sum())
        records[name] = _shares(counts)
    return {
        "beats": "own, lead 0; forms of all leads" if own else "reference",
        "window_beats": WINDOW_BEATS,
        **_shares(pooled),
        "flutter_left_out": left_out,
        "withheld": withheld,
        "records": records,
    }


def _shares(counts: NDArray[np.int64]) -> dict[str, Any]:
    tp, fn, tn, fp = (int(count) for count in counts)
    return {
        "se": percent(tp / (tp + fn) if tp + fn else float("nan")),
        "sp": percent(tn / (tn + fp) if tn + fp else float("nan")),
        "windows": tp + fn + tn + fp, "tp": tp, "fn": fn, "tn": tn, "fp": fp,
    }  # fmt: skip


def _on_bad_signal(signal: NDArray[np.float32], fs: float, cut: Windows) -> NDArray[np.bool_]:
    """Windows of which more than half lies on bad signal."""
    bad = [(s.onset, s.offset) for s in signal_quality(signal, fs)[0] if s.grade is Grade.BAD]
    share = np.zeros(len(cut.rr))
    for onset, offset in bad:
        overlap = np.minimum(cut.stop, offset) - np.maximum(cut.start, onset)
        share += np.maximum(overlap, 0)
    return np.asarray(share > 0.5 * (cut.stop - cut.start))
