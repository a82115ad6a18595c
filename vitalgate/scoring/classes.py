"""Beat classes scored as EC57 does, on our own beats: V and S over the records without a pacemaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.beats import percent
from vitalgate.scoring.databases import PACED
from vitalgate.scoring.examples import FoundBeats, found_beats
from vitalgate.signal.classes import classify_beats

#: What a detection as this class counts as a false positive on (F and Q beats called V are neutral, Q called S).
_FALSE = {"V": ("N", "S", "O"), "S": ("N", "V", "F", "O")}


def score_classes(folder: Path) -> dict[str, dict[str, Any]]:
    """The parts ``v`` and ``s`` of the document: pooled, and of each record that has such beats or false ones."""
    counts: dict[str, dict[str, NDArray[np.int64]]] = {"V": {}, "S": {}}
    for name in databases.names(folder):
        if name in PACED:
            continue
        recording = databases.read_recording(folder, name)
        found = found_beats(recording)
        said = classify_beats(recording.signals, recording.fs, found.beats).kinds
        for kind, by_record in counts.items():
            by_record[name] = count(found, said, kind)
    return {kind.lower(): _part(by_record) for kind, by_record in counts.items()}


def count(found: FoundBeats, said: NDArray[np.str_], kind: str) -> NDArray[np.int64]:
    """TP, FN, FP of one class; a beat that was not found is missed, whatever its class."""
    called = said == kind
    tp = int((called & (found.classes == kind)).sum())
    fn = int((~called & (found.classes == kind)).sum()) + found.missed.count(kind)
    fp = int((called & np.isin(found.classes, _FALSE[kind])).sum())
    return np.array([tp, fn, fp])


def _part(by_record: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    total = np.sum(list(by_record.values()), axis=0) if by_record else np.zeros(3, np.int64)
    return {
        **_shares(total),
        "beats": "own, lead 0",
        "leads": "all",
        "leaves_out": f"paced {', '.join(sorted(PACED))}; flutter",
        "records": {name: _shares(counts) for name, counts in by_record.items() if counts.any()},
    }


def _shares(counts: NDArray[np.int64]) -> dict[str, Any]:
    tp, fn, fp = (int(n) for n in counts)
    return {
        "se": percent(tp / (tp + fn) if tp + fn else float("nan")),
        "ppv": percent(tp / (tp + fp) if tp + fp else float("nan")),
        "tp": tp, "fn": fn, "fp": fp,
    }  # fmt: skip
