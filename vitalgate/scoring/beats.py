"""Beat detection scored per record and pooled, EC57: MIT-BIH and NSTDB by ``.atr``, LUDB by its QRS marks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.databases import PACED, Database, Recording, TwelveLeads
from vitalgate.scoring.detectors import OURS, Detector, detector
from vitalgate.signal.beats import find_beats_together
from vitalgate.signal.scoring import WINDOW_S, BeatScore, average, gross, match_beats

#: EC57 leaves out a learning period.
LEARNING_S = 300.0
STRIP_S = 30.0

#: LUDB's default lead; the others are scored too, each by itself.
LUDB_LEAD = "ii"


def shares(score: BeatScore) -> dict[str, Any]:
    """Counts, and shares in percent."""
    return {
        "se": percent(score.se), "ppv": percent(score.ppv), "f1": percent(score.f1),
        "tp": score.tp, "fn": score.fn, "fp": score.fp,
    }  # fmt: skip


def percent(share: float) -> float | None:
    """A share as a percentage, None when it is not defined (0 of 0)."""
    return None if np.isnan(share) else round(100 * float(share), 4)


def means(scores: Iterable[BeatScore]) -> dict[str, Any]:
    """Means over records, percent."""
    mean = average(scores)
    return {"se": percent(mean.se), "ppv": percent(mean.ppv), "f1": percent(mean.f1), "records": mean.records}


def lead_index(leads: tuple[str, ...], wanted: str | None) -> int | None:
    """Position of a lead given by name (any case) or number; the first by default; None where a record has it not."""
    if wanted is None:
        return 0
    for k, name in enumerate(leads):
        if name.lower() == wanted.lower():
            return k
    return int(wanted) if wanted.isdigit() and int(wanted) < len(leads) else None


def score_beats(
    folder: Path, lead: str | None = None, detector_name: str = OURS, stream: int | None = None
) -> dict[str, Any]:
    """Score one detector on every record of an MIT-BIH-like folder or of LUDB.

    Parameters
    ----------
    lead
        Name or number of the lead; the first by default (LUDB: ii). Records without it are named in ``excluded``.

    Returns
    -------
    The ``beats`` part of the document.
    """
    find = detector(detector_name, stream)
    if databases.recognise(folder) is Database.LUDB:
        return _score_ludb(folder, lead or LUDB_LEAD, find, detector_name)
    records: dict[str, Any] = {}
    whole: list[BeatScore] = []
    strict: list[BeatScore] = []
    strips: list[BeatScore] = []
    noise: dict[str, list[BeatScore]] = {}
    without = []
    for name in databases.names(folder):
        recording = databases.read_recording(folder, name)
        k = lead_index(recording.leads, lead)
        if k is None:
            without.append(name)
            continue
        signal = recording.signals[k]
        found = find(signal, recording.fs)
        score = _matched(recording, found, recording.flutter)
        records[name] = shares(score) | {"lead": recording.leads[k]}
        whole.append(score)
        if name not in PACED:
            learning = (0, int(LEARNING_S * recording.fs))
            strict.append(_matched(recording, found, (*recording.flutter, learning)))
        if "e" in name:
            noise.setdefault(str(int(name.split("e")[1].replace("_", "-"))), []).append(score)
        elif stream is None:
            strips += _strips(recording, signal, find)
    document: dict[str, Any] = {
        "detector": detector_name,
        "lead": lead or "first",
        "window_ms": 1000 * WINDOW_S,
        "n_records": len(records),
        "excluded": {"records_without_lead": without, "segments": "ventricular flutter or fibrillation"},
        "gross": shares(gross(whole)),
        "average": means(whole),
        "strict": shares(gross(strict))
        | {"leaves_out": f"paced {', '.join(sorted(PACED))}; the first {LEARNING_S / 60:g} min"},
        "records": records,
    }
    if strips:
        document["strips_30s"] = shares(gross(strips)) | {"n": len(strips)}
    if noise:
        document["noise_db"] = {db: shares(gross(scores)) for db, scores in sorted(noise.items(), key=_by_number)}
    return document


def _by_number(item: tuple[str, Any]) -> int:
    return -int(item[0])


def _matched(recording: Recording, found: NDArray[np.int64], exclude: tuple[tuple[int, int], ...]) -> BeatScore:
    return match_beats(recording.beats, found, recording.fs, exclude=exclude).score


def _strips(recording: Recording, signal: NDArray[np.float32], find: Detector) -> list[BeatScore]:
    """Cut into strips of 30 s, each detected by itself; a beat within 150 ms of a cut counts where it is found."""
    size = round(STRIP_S * recording.fs)
    near = int(WINDOW_S * recording.fs)
    scores = []
    for begin in range(0, len(signal) - size + 1, size):
        found = find(signal[begin : begin + size], recording.fs) + begin
        # A reference beat on the very edge has half its complex outside.
        edges = ((begin - near, begin + near), (begin + size - near, begin + size + near))
        inside = (recording.beats >= begin) & (recording.beats < begin + size)
        scores.append(
            match_beats(recording.beats[inside], found, recording.fs, exclude=(*recording.flutter, *edges)).score
        )
    return scores


def _score_ludb(folder: Path, lead: str, find: Detector, detector_name: str) -> dict[str, Any]:
    records: dict[str, Any] = {}
    by_lead: dict[str, list[BeatScore]] = {}
    together: list[BeatScore] = []
    for name in databases.names(folder):
        record = databases.read_twelve_leads(folder, name)
        for k, lead_name in enumerate(record.leads):
            score = _annotated_part(record, k, find(record.signals[k], record.fs))
            by_lead.setdefault(lead_name, []).append(score)
            if lead_name.lower() == lead.lower():
                records[name] = shares(score)
        if detector_name == OURS:
            k = lead_index(record.leads, lead) or 0
            together.append(_annotated_part(record, k, find_beats_together(record.signals, record.fs)))
    chosen = next((scores for name, scores in by_lead.items() if name.lower() == lead.lower()), [])
    document: dict[str, Any] = {
        "detector": detector_name,
        "lead": lead,
        "window_ms": 1000 * WINDOW_S,
        "n_records": len(records),
        "excluded": {"segments": "before the first and after the last annotated QRS, where nothing is marked"},
        "gross": shares(gross(chosen)),
        "average": means(chosen),
        "leads": {name: shares(gross(scores)) for name, scores in by_lead.items()},
        "all_leads_apart": shares(gross([score for scores in by_lead.values() for score in scores])),
        "records": records,
    }
    if together:
        document["all_leads_together"] = shares(gross(together))
    return document


def _annotated_part(record: TwelveLeads, k: int, found: NDArray[np.int64]) -> BeatScore:
    truth = np.array([wave.peak for wave in record.waves[k] if wave.kind == "QRS"], np.int64)
    if not len(truth):
        return BeatScore(0, 0, 0)
    near = int(WINDOW_S * record.fs)
    inside = (found >= truth[0] - near) & (found <= truth[-1] + near)
    return match_beats(truth, found[inside], record.fs).score
