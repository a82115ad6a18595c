"""What an ECG report says: beats, rate, rhythm, intervals and quality of a strip or a 12-lead ECG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.report.statement import Statement, rhythm_statement
from vitalgate.signal import beats as beat_detector
from vitalgate.signal import classes, delineation, fibrillation, intervals, quality, strips
from vitalgate.signal.beats import find_beats, find_beats_together
from vitalgate.signal.classes import classify_beats
from vitalgate.signal.delineation import MARKS, Delineation, delineate
from vitalgate.signal.intervals import Interval, believed, stretch_intervals
from vitalgate.signal.quality import Grade, Stretch, signal_quality

NOT_A_DEVICE = "Made by software that is not a certified medical device. Not for diagnosis."
#: The lead that the rhythm is told by, if it is there.
RHYTHM_LEAD = "II"
#: Version of the JSON document; fields are only ever added.
SCHEMA_VERSION = "1"
_SHORTEST_S = 2.0
#: Of a beat this close to the beginning or the end a part is missing: its class is not told (Q), nor on bad signal.
_EDGE_S = (0.30, 0.42)
_ALGORITHMS: tuple[Any, ...] = (
    beat_detector, classes, delineation, intervals, quality, fibrillation, strips,
)  # fmt: skip
_ORDER = (Grade.GOOD, Grade.USABLE, Grade.BAD)


class NothingToReport(ValueError):
    """There is no signal that a report could be made of; the text says why."""


@dataclass(frozen=True, eq=False)
class Ecg:
    """A strip as it was recorded.

    Attributes
    ----------
    leads
        Names, such as II or V1.
    samples
        (n_leads, n_samples), mV, unfiltered; NaN where there is none.
    rate
        Hz, 100 to 1000.
    start
        Time of the first sample in the zone that is to be printed; None when it is not known.
    identifiers
        What says whose and of what it is, in the order of printing: patient, device, record...
    """

    leads: Sequence[str]
    samples: NDArray[np.float64]
    rate: float
    start: datetime | None
    identifiers: Mapping[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length, s."""
        return float(self.samples.shape[1] / self.rate)


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in an Ecg; samples count from its first. ``waves`` has marks only where a lead is not bad."""

    ecg: Ecg
    beats: NDArray[np.int64]
    kinds: NDArray[np.str_]
    waves: Delineation
    intervals: Mapping[str, Interval]
    quality: Sequence[Sequence[Stretch]]
    statement: Statement
    rhythm_lead: int

    @property
    def rr_ms(self) -> NDArray[np.float64]:
        """Intervals between its beats, ms; those over 4 s are no intervals."""
        rr = 1000 * np.diff(self.beats) / self.ecg.rate
        return rr[rr <= 4000]

    @property
    def rate_per_min(self) -> float | None:
        """Ventricular rate by the mean RR interval, 1/min; None with fewer than two, or when the signal is all bad."""
        return None if self.all_bad or len(self.rr_ms) < 2 else float(60000 / self.rr_ms.mean())

    @property
    def all_bad(self) -> bool:
        """No lead is fit for anything at any time."""
        return all(stretch.grade is Grade.BAD for stretches in self.quality for stretch in stretches)

    def lead_grade(self, lead: int) -> tuple[Grade, str]:
        """The worst grade of a lead, and why."""
        worst = max(self.quality[lead], key=lambda s: _ORDER.index(s.grade), default=None)
        if worst is None:
            return Grade.BAD, "too short"
        return worst.grade, str(worst.reason) if worst.reason else ""


def examine(ecg: Ecg) -> Findings:
    """Find everything that a report says.

    Raises
    ------
    NothingToReport
        If there is no lead, less than two seconds, or the rate is outside 100..1000 Hz.
    """
    if not len(ecg.leads) or ecg.seconds < _SHORTEST_S:
        raise NothingToReport(
            f"there are {len(ecg.leads)} leads of {ecg.seconds:.1f} s; a report needs one lead and {_SHORTEST_S:g} s"
        )
    if not 100 <= ecg.rate <= 1000:
        raise NothingToReport(f"the ECG has {ecg.rate:g} samples a second; 100 to 1000 can be judged")
    graded = signal_quality(ecg.samples, ecg.rate)
    fit = [lead for lead, stretches in enumerate(graded) if any(s.grade is not Grade.BAD for s in stretches)] or list(
        range(len(ecg.leads))
    )
    used = ecg.samples[fit]
    beats = find_beats_together(used, ecg.rate) if len(fit) > 1 else find_beats(used, ecg.rate)[0]
    lead = _rhythm_lead(ecg, graded, fit)
    kinds = classify_beats(ecg.samples[lead], ecg.rate, beats).kinds
    whole = (beats >= _EDGE_S[0] * ecg.rate) & (beats < ecg.samples.shape[1] - _EDGE_S[1] * ecg.rate)
    waves = delineate(ecg.samples, ecg.rate, beats)
    good = believed(waves, graded)
    kinds = np.where(whole & good[:, lead], kinds, "Q")
    marks = np.where(good[:, :, np.newaxis], waves.marks, np.nan)
    waves = replace(waves, marks=marks, sure=np.where(np.isnan(marks), np.nan, waves.sure))
    measured = stretch_intervals(waves, ecg.rate, graded, kinds)
    bad = all(s.grade is Grade.BAD for stretches in graded for s in stretches)
    statement = rhythm_statement(ecg.samples[lead], ecg.rate, beats, kinds, waves, measured, bad=bad)
    return Findings(ecg, beats, kinds, waves, measured, graded, statement, lead)


def _rhythm_lead(ecg: Ecg, graded: Sequence[Sequence[Stretch]], fit: Sequence[int]) -> int:
    """II if it is good or usable throughout, else the lead that is best."""

    def badness(lead: int) -> tuple[int, bool, int]:
        worst = max((_ORDER.index(s.grade) for s in graded[lead]), default=len(_ORDER))
        return worst, plain_name(ecg.leads[lead]).upper() != RHYTHM_LEAD, lead

    best = min(fit, key=badness)
    named = [k for k in fit if plain_name(ecg.leads[k]).upper() == RHYTHM_LEAD]
    return named[0] if named and badness(named[0])[0] < _ORDER.index(Grade.BAD) else best


def plain_name(lead: str) -> str:
    """A lead as it is printed: ecg.II is II, avr is aVR, mlii stays MLII."""
    name = lead.removeprefix("ecg.")
    upper = name.upper()
    return "aV" + upper[2] if upper in ("AVR", "AVL", "AVF") else upper if len(name) <= 4 else name


def document(found: Findings) -> dict[str, Any]:
    """The report for a program: everything that is printed, with units in the names and every beat's marks."""
    ecg = found.ecg
    rr = found.rr_ms
    marks = found.waves.marks / ecg.rate
    return {
        "schema": "ecg.report",
        "schema_version": SCHEMA_VERSION,
        "identifiers": dict(ecg.identifiers),
        "start": ecg.start.isoformat() if ecg.start else None,
        "seconds": round(ecg.seconds, 3),
        "rate_hz": ecg.rate,
        "leads": [plain_name(lead) for lead in ecg.leads],
        "rhythm_lead": plain_name(ecg.leads[found.rhythm_lead]),
        "quality": {
            plain_name(lead): dict(zip(("grade", "reason"), _quality(found, k), strict=True))
            for k, lead in enumerate(ecg.leads)
        },
        "measurements": {
            "heart_rate_per_min": _round(found.rate_per_min),
            "rr_ms": {
                name: _round(of(rr)) if len(rr) else None
                for name, of in (("mean", np.mean), ("least", np.min), ("most", np.max))
            },
            **{
                f"{name}_ms": {
                    "value": one.ms, "spread": one.spread_ms, "beats": one.beats, "confidence": one.confidence,
                    "withheld": one.reason,
                }
                for name, one in found.intervals.items()
            },
        },
        "rhythm": {
            "code": found.statement.code, "statement": found.statement.text, "evidence": list(found.statement.evidence),
        },
        "beats": [
            {
                "sample": int(beat), "at_s": _round(beat / ecg.rate, 4), "class": str(kind),
                "waves_s": {
                    plain_name(lead): {
                        name: _round(value, 4) for name, value in zip(MARKS, row, strict=True) if np.isfinite(value)
                    }
                    for lead, row in zip(ecg.leads, marks[k], strict=True)
                },
            }
            for k, (beat, kind) in enumerate(zip(found.beats, found.kinds, strict=True))
        ],
        "algorithms": algorithms(),
        "notice": NOT_A_DEVICE,
    }  # fmt: skip


def algorithms() -> dict[str, str]:
    """Names and versions of what a report is made with."""
    return {part.NAME: part.VERSION for part in _ALGORITHMS}


def _quality(found: Findings, lead: int) -> tuple[str, str | None]:
    grade, reason = found.lead_grade(lead)
    return str(grade), reason or None


def _round(value: Any, digits: int = 1) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)
