"""A sentence on the rhythm of a strip, and what it rests on. Pure.

It says what was measured - regular or not, P waves or not, beats of other classes - and names a rhythm only where these
go together. Limits are the usual ones of the textbooks: bradycardia under 60/min and tachycardia over 100/min (of a
resting 12-lead ECG; alerts have limits of their own), an interval that changes by more than 10 % from beat to beat is
irregular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal import waves as wave_search
from vitalgate.signal.delineation import Delineation
from vitalgate.signal.fibrillation import WINDOW_BEATS, fibrillation_of_beats
from vitalgate.signal.intervals import Interval
from vitalgate.signal.strips import classify_strip

FEWEST_BEATS = 4
BRADYCARDIA_PER_MIN, TACHYCARDIA_PER_MIN = 60.0, 100.0
#: Median change from one interval to the next, as a share of the median interval.
IRREGULAR = 0.10
#: Of the beats with a P wave before them: nearly all, hardly any.
MOST, FEW = 0.8, 0.4
_STRIP_S = (9.0, 61.0)


@dataclass(frozen=True)
class Statement:
    """What is said of the rhythm."""

    code: str
    """sinus, fibrillation, irregular_with_p, irregular, regular_without_p, or none when nothing is said."""
    text: str
    evidence: tuple[str, ...]


def rhythm_statement(
    signal: NDArray[np.float64],
    fs: float,
    beats: NDArray[np.int64],
    kinds: NDArray[np.str_],
    waves: Delineation,
    measured: Mapping[str, Interval],
    *,
    bad: bool,
) -> Statement:
    """Judge the rhythm.

    Parameters
    ----------
    signal
        (n_samples,) mV, the lead by which strips are judged.
    bad
        The signal is bad in all leads: nothing is said then.
    """
    if bad:
        return Statement("none", "No statement on the rhythm", ("the signal is bad in every lead",))
    if len(beats) < FEWEST_BEATS:
        return Statement(
            "none", "No statement on the rhythm", (f"{len(beats)} beats were found; {FEWEST_BEATS} are needed",)
        )
    normal = np.isin(kinds, ["N", "S"])
    rr = np.diff(beats) / fs
    between = rr[(rr <= 4.0) & normal[1:] & normal[:-1]]
    between = between if len(between) >= 3 else rr[rr <= 4.0]
    if len(between) < 3:
        return Statement("none", "No statement on the rhythm", ("there are long gaps between the beats",))
    middle = float(np.median(between))
    change = float(np.median(np.abs(np.diff(between)))) / middle
    rate = 60 / float(np.mean(rr[rr <= 4.0]))
    with_p = float((waves.p_share[normal] >= wave_search.P_PRESENT).mean()) if normal.any() else 0.0
    evidence = [
        f"RR {1000 * between.min():.0f} to {1000 * between.max():.0f} ms, changes by {100 * change:.0f} % a beat",
        f"P waves before {100 * with_p:.0f} % of beats" + _pr(measured),
    ]
    likely, told = _fibrillation(signal, fs, beats)
    evidence += [told] if told else []
    others = {name: int((kinds == name).sum()) for name in ("S", "V", "F")}
    said = [f"{count} {name}" for name, count in others.items() if count]
    unknown = int((kinds == "Q").sum())
    said += [f"{unknown} not classified"] if unknown else []
    evidence.append("beats: " + ", ".join([f"{int((kinds == 'N').sum())} N", *said]))
    code, text = _named(rate, change, with_p, likely)
    if others["V"]:
        text += f", {others['V']} ventricular beat{'s' if others['V'] > 1 else ''}"
    if others["S"] and code != "fibrillation":
        text += f", {others['S']} early supraventricular beat{'s' if others['S'] > 1 else ''}"
    return Statement(code, text, tuple(evidence))


def _named(rate: float, change: float, with_p: float, likely: bool) -> tuple[str, str]:
    irregular = change > IRREGULAR
    if irregular and likely and with_p < MOST:
        return "fibrillation", "Irregular, P waves few: atrial fibrillation is likely"
    if irregular:
        return ("irregular_with_p", "Irregular rhythm with P waves") if with_p >= MOST else (
            "irregular", "Irregular rhythm")  # fmt: skip
    if with_p >= MOST:
        slow, fast = rate < BRADYCARDIA_PER_MIN, rate > TACHYCARDIA_PER_MIN
        name = "bradycardia" if slow else "tachycardia" if fast else "rhythm"
        return "sinus", f"Regular with P waves: as in sinus {name}"
    if with_p < FEW:
        return "regular_without_p", "Regular rhythm, no P waves seen"
    return "regular_without_p", "Regular rhythm, P waves not clear"


def _fibrillation(signal: NDArray[np.float64], fs: float, beats: NDArray[np.int64]) -> tuple[bool, str]:
    """Whether windows of 30 beats, or a short strip as a whole, look like atrial fibrillation; and in words."""
    if len(beats) > WINDOW_BEATS:
        positive = fibrillation_of_beats(signal, fs, beats).positive
        return bool(positive.mean() >= 0.5), f"fibrillation by intervals in {positive.sum()} of {len(positive)} windows"
    if _STRIP_S[0] <= len(signal) / fs <= _STRIP_S[1]:
        judged = classify_strip(signal, fs)
        shares = ", ".join(
            f"{name} {100 * judged.shares[key]:.0f} %"
            for key, name in (("N", "normal"), ("A", "fibrillation"), ("O", "other"), ("~", "noise"))
        )
        return judged.label == "A", f"as a strip: {shares}"
    return False, ""


def _pr(measured: Mapping[str, Interval]) -> str:
    pr = measured["pr"].ms
    return f", PR {pr:.0f} ms" if pr is not None else ""
