"""Onsets, peaks and offsets of P, QRS and T scored against the marks that LUDB has for each lead.

A mark and a reference mark of the same kind and lead no further apart than 150 ms make a pair, one to one. Se counts
every reference mark that has no pair; +P every mark between a lead's first and last reference mark that has none. Error
is found minus reference, over all pairs: none is left out as an outlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.beats import percent
from vitalgate.scoring.databases import TwelveLeads
from vitalgate.signal.delineation import MARKS, Delineation, delineate
from vitalgate.signal.scoring import WINDOW_S, BeatScore, match_beats
from vitalgate.signal.trees import Boosted

Floats = NDArray[np.float64]
#: Trees for a record, by its name; None for those that come with the package.
ModelsOf = Callable[[str], Mapping[str, Boosted] | None]


@dataclass
class _Tally:
    tp: int = 0
    fn: int = 0
    fp: int = 0
    errors_ms: list[Floats] = field(default_factory=list)

    def add(self, other: _Tally) -> None:
        self.tp, self.fn, self.fp = self.tp + other.tp, self.fn + other.fn, self.fp + other.fp
        self.errors_ms += other.errors_ms

    def shown(self) -> dict[str, Any]:
        score = BeatScore(self.tp, self.fn, self.fp)
        errors = np.concatenate([np.empty(0), *self.errors_ms])
        return {
            "se": percent(score.se), "ppv": percent(score.ppv),
            "mean_ms": round(float(errors.mean()), 2) if len(errors) else None,
            "sd_ms": round(float(errors.std(ddof=1)), 2) if len(errors) > 1 else None,
            "tp": self.tp, "fn": self.fn, "fp": self.fp,
        }  # fmt: skip


def score_delineation(folder: Path, models_of: ModelsOf = lambda _: None) -> dict[str, Any]:
    """Score a folder of LUDB.

    Returns
    -------
    ``MARK.{se,ppv,mean_ms,sd_ms,tp,fn,fp}`` over all leads of all records, each lead's marks found with the help of
    the others; ``together`` the same for the median over the leads, as the CSE working party takes it; ``alone`` for
    each lead found by itself; ``leads.LEAD`` for each lead; ``reference_scatter.MARK.sd_ms`` how far the reference
    marks themselves scatter from beat to beat, round their mean of record and lead: what no method can be rid of.
    """
    pooled, alone, together = ({name: _Tally() for name in MARKS} for _ in range(3))
    by_lead: dict[str, dict[str, _Tally]] = {}
    scatter: dict[str, list[Floats]] = {name: [] for name in MARKS}
    names = databases.names(folder)
    for record_name in names:
        record = databases.read_twelve_leads(folder, record_name)
        models = models_of(record_name)
        found = delineate(record.signals, record.fs, models=models)
        reference = by_beat(record, found.beats)
        for k, mark in enumerate(MARKS):
            together[mark].add(_together(reference[:, :, k], found.marks[:, :, k], record.fs))
            scatter[mark].append(_scatter(reference[:, :, k], found, record.fs))
        for lead, lead_name in enumerate(record.leads):
            single = delineate(record.signals[lead], record.fs, models=models)
            for k, mark in enumerate(MARKS):
                tally = _matched(record, lead, mark, found.marks[:, lead, k])
                pooled[mark].add(tally)
                by_lead.setdefault(lead_name, {name: _Tally() for name in MARKS})[mark].add(tally)
                alone[mark].add(_matched(record, lead, mark, single.marks[:, 0, k]))
    return {
        "window_ms": 1000 * WINDOW_S,
        "n_records": len(names),
        "excluded": {"marks": "found before the first or after the last reference mark of a lead"},
        **{mark: tally.shown() for mark, tally in pooled.items()},
        "reference_scatter": {mark: {"sd_ms": _sd(parts)} for mark, parts in scatter.items()},
        "together": {mark: tally.shown() for mark, tally in together.items()},
        "alone": {mark: tally.shown() for mark, tally in alone.items()},
        "leads": {lead: {mark: tally.shown() for mark, tally in tallies.items()} for lead, tallies in by_lead.items()},
    }


def reference_marks(record: TwelveLeads, lead: int, mark: str) -> Floats:
    """Reference marks of one kind in one lead, increasing."""
    wave, part = mark.split("_")
    attribute = {"on": "onset", "peak": "peak", "off": "offset"}[part]
    values = [getattr(one, attribute) for one in record.waves[lead] if one.kind.lower() == wave]
    return np.array(sorted(value for value in values if value is not None), np.float64)


def by_beat(record: TwelveLeads, beats: NDArray[np.int64]) -> Floats:
    """Reference marks, (n_beats, n_leads, 9), each with the beat that is nearest to its QRS complex; NaN where none."""
    out = np.full((len(beats), len(record.leads), len(MARKS)), np.nan)
    for lead, waves in enumerate(record.waves):
        complexes = [wave.peak for wave in waves if wave.kind == "QRS"]
        for wave in waves:
            peak = wave.peak
            # A P wave belongs to the next QRS, a T wave to the last.
            own = [c for c in complexes if (c >= peak if wave.kind == "P" else c <= peak)]
            if not own or not len(beats):
                continue
            centre = own[0] if wave.kind == "P" else own[-1]
            beat = int(np.abs(beats - centre).argmin())
            if abs(int(beats[beat]) - centre) <= WINDOW_S * record.fs:
                column = MARKS.index(f"{wave.kind.lower()}_on")
                for shift, value in enumerate((wave.onset, wave.peak, wave.offset)):
                    out[beat, lead, column + shift] = np.nan if value is None else value
    return out


def _matched(record: TwelveLeads, lead: int, mark: str, found: Floats) -> _Tally:
    reference = reference_marks(record, lead, mark)
    found = np.sort(found[~np.isnan(found)])
    match = match_beats(np.round(reference), np.round(found), record.fs)
    pairs = match.pairs
    every = [
        value for wave in record.waves[lead] for value in (wave.onset, wave.peak, wave.offset) if value is not None
    ]
    false = found[match.false]
    if every:
        false = false[(false >= min(every)) & (false <= max(every))]
    errors = 1000 * (found[pairs[:, 1]] - reference[pairs[:, 0]]) / record.fs
    return _Tally(match.tp, match.fn, len(false) if every else 0, [errors])


def _together(reference: Floats, found: Floats, fs: float) -> _Tally:
    """Medians over the leads, of the beats that have the reference mark in at least half of them."""
    tally = _Tally()
    for ref, own in zip(reference, found, strict=True):
        marked = ref[~np.isnan(ref)]
        if 2 * len(marked) < len(ref):
            continue
        ours = own[~np.isnan(own)]
        error = 1000 * (np.median(ours) - np.median(marked)) / fs if len(ours) else np.inf
        if abs(error) <= 1000 * WINDOW_S:
            tally.tp += 1
            tally.errors_ms.append(np.array([error]))
        else:
            tally.fn += 1
    return tally


def _scatter(reference: Floats, found: Delineation, fs: float) -> Floats:
    """Distance of each reference mark from its lead's mean in the record, both from the beat's QRS centre, ms."""
    centre = np.full(len(found.beats), np.nan)
    middle = 0.5 * (found.mark("qrs_on") + found.mark("qrs_off"))
    for k, row in enumerate(middle):
        if not np.isnan(row).all():
            centre[k] = np.median(row[~np.isnan(row)])
    away = 1000 * (reference - centre[:, np.newaxis]) / fs
    parts = []
    for lead in away.T:
        there = lead[~np.isnan(lead)]
        if len(there) >= 3:
            # The mean was taken from the same few beats.
            parts.append((there - there.mean()) * np.sqrt(len(there) / (len(there) - 1)))
    return np.concatenate([np.empty(0), *parts])


def _sd(parts: list[Floats]) -> float | None:
    values = np.concatenate([np.empty(0), *parts])
    return round(float(np.sqrt((values * values).mean())), 2) if len(values) else None
