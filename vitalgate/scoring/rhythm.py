"""Pauses and rhythm events scored against the reference beats and rhythm labels of an MIT-BIH-like folder.

Pauses: RR intervals of 2 s or more between reference beats, but in ventricular flutter, where a gap is none. A pause is
found when an event of ours covers half of what the two cover together, one to one.

Rhythms: episodes as EC57's ``epicmp`` counts them (any overlap is a hit) and by duration. The reference of couplets,
runs and of bigeminy and trigeminy ``by rule`` is our own rule on the reference beats; that of the others is the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.beats import percent
from vitalgate.scoring.databases import AAMI, PACED, Recording
from vitalgate.signal.beats import find_beats
from vitalgate.signal.classes import classify_beats
from vitalgate.signal.ectopy import ectopy_events
from vitalgate.signal.episodes import episodes, middle_window
from vitalgate.signal.fibrillation import fibrillation
from vitalgate.signal.forms import cut_forms
from vitalgate.signal.pieces import RhythmEvent
from vitalgate.signal.quality import Grade, signal_quality
from vitalgate.signal.rhythm import PAUSE_S
from vitalgate.signal.timeline import rhythm_of_signal

Spans = list[tuple[int, int]]
_LABELS = {"vf": "VFL", "vt": "VT", "bigeminy": "B", "trigeminy": "T", "bradycardia": "SBR", "af": "AFIB"}
_BY_RULE = ("couplet", "v_run", "vt", "bigeminy", "trigeminy")


def score_rhythm(folder: Path) -> dict[str, dict[str, Any]]:
    """The parts ``pauses`` and ``rhythm`` of the document; beats of the first lead, classes of all."""
    pauses: dict[str, NDArray[np.int64]] = {}
    labelled: dict[str, list[NDArray[np.float64]]] = {}
    by_rule: dict[str, list[NDArray[np.float64]]] = {}
    in_flutter = 0
    for name in databases.names(folder):
        recording = databases.read_recording(folder, name)
        beats = find_beats(recording.signals[0], recording.fs)[0]
        kinds = classify_beats(recording.signals, recording.fs, beats).kinds
        events = rhythm_of_signal(recording.signals[0], recording.fs, beats, kinds)
        events += fibrillation_episodes(recording.signals[0], recording.fs, beats, kinds)
        reference, out = reference_pauses(recording)
        in_flutter += out
        ours = [(event.onset, event.offset) for event in events if event.kind == "pause"]
        pauses[name] = match_pauses(reference, [span for span in ours if not _overlaps(span, recording.flutter)])
        if name in PACED:
            continue
        for kind, label in _LABELS.items():
            truth = [(r.onset, r.offset) for r in recording.rhythms if r.label == label]
            labelled.setdefault(kind, []).append(overlap(truth, _of(events, kind), recording.flutter, kind == "vf"))
        ruled = ectopy_events(recording.beats, [AAMI[symbol] for symbol in recording.symbols], recording.fs)
        for kind in _BY_RULE:
            by_rule.setdefault(kind, []).append(overlap(_of(ruled, kind), _of(events, kind), recording.flutter, False))
    total = np.sum(list(pauses.values()), axis=0) if pauses else np.zeros(3, np.int64)
    return {
        "pauses": {
            "reference": int(total[0]), "missed": int(total[1]), "false": int(total[2]),
            "left_out_in_flutter": in_flutter,
            "records": {
                name: {"reference": int(row[0]), "missed": int(row[1]), "false": int(row[2])}
                for name, row in pauses.items() if row.any()
            },
        },
        "rhythm": {
            "beats": "own, lead 0", "leaves_out": f"paced {', '.join(sorted(PACED))}; flutter, but for vf",
            "labels": {kind: _pooled(rows, f"({_LABELS[kind]}") for kind, rows in labelled.items()},
            "by_rule_on_reference_beats": {kind: _pooled(rows, "rule") for kind, rows in by_rule.items()},
        },
    }  # fmt: skip


def fibrillation_episodes(
    signal: NDArray[np.float32], fs: float, beats: NDArray[np.int64], kinds: NDArray[np.str_]
) -> list[RhythmEvent]:
    """Episodes of atrial fibrillation by blocks of 10 s, as the analysis tells them (``signal.episodes``)."""
    graded = signal_quality(signal, fs)[0]
    starts = [middle_window(beats, fs, (block.onset + block.offset) // 2) for block in graded]
    told = [k for k, block in enumerate(graded) if starts[k] is not None and block.grade is not Grade.BAD]
    positive, withheld = np.zeros(len(graded), np.bool_), np.ones(len(graded), np.bool_)
    if told:
        first = np.array([starts[k] for k in told], np.int64)
        positive[told] = fibrillation(beats, fs, first, kinds, cut_forms(signal, fs, beats)).positive
        withheld[told] = False
    inside = episodes(positive, withheld)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8))).reshape(-1, 2)
    return [
        RhythmEvent("af", graded[low].onset, graded[high - 1].offset, float("nan"), "/min")
        for low, high in edges.tolist()
    ]


def reference_pauses(recording: Recording) -> tuple[Spans, int]:
    """Pauses between reference beats, and how many gaps in flutter were left out."""
    long = np.flatnonzero(np.diff(recording.beats) >= PAUSE_S * recording.fs)
    spans = [(int(recording.beats[k]), int(recording.beats[k + 1])) for k in long]
    kept = [span for span in spans if not _overlaps(span, recording.flutter)]
    return kept, len(spans) - len(kept)


def match_pauses(reference: Sequence[tuple[int, int]], ours: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """[reference, missed, false], one to one in order."""
    left = list(ours)
    missed = 0
    for span in reference:
        hit = next((own for own in left if _covers_half(span, own)), None)
        if hit is None:
            missed += 1
        else:
            left.remove(hit)
    return np.array([len(reference), missed, len(left)])


def _covers_half(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return 2 * (min(a[1], b[1]) - max(a[0], b[0])) >= max(a[1], b[1]) - min(a[0], b[0])


def _overlaps(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(span[0] < end and begin < span[1] for begin, end in others)


def _of(events: Sequence[RhythmEvent], kind: str) -> Spans:
    return [(event.onset, event.offset) for event in events if event.kind == kind]


def overlap(truth: Spans, ours: Spans, flutter: Sequence[tuple[int, int]], in_flutter: bool) -> NDArray[np.float64]:
    """[reference episodes, of them found, ours, of them true, samples in the reference, in ours, in both]."""
    if not in_flutter:
        truth = [span for span in truth if not _overlaps(span, flutter)]
        ours = [span for span in ours if not _overlaps(span, flutter)]
    found = sum(_overlaps(span, ours) for span in truth)
    true = sum(_overlaps(span, truth) for span in ours)
    both = sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in truth for b in ours)
    return np.array([len(truth), found, len(ours), true, _length(truth), _length(ours), both], np.float64)


def _length(spans: Spans) -> int:
    return sum(end - begin for begin, end in spans)


def _pooled(rows: Sequence[NDArray[np.float64]], reference: str) -> dict[str, Any]:
    truth, found, ours, true, long, own, both = np.sum(rows, axis=0)
    nan = float("nan")
    return {
        "reference": reference, "episodes": int(truth), "found": int(found), "ours": int(ours), "true": int(true),
        "se": percent(found / truth if truth else nan), "ppv": percent(true / ours if ours and truth else nan),
        "duration_se": percent(both / long if long else nan),
        "duration_ppv": percent(both / own if own and truth else nan),
    }  # fmt: skip
