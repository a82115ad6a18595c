"""Signal quality scored on what is known to be clean (MIT-BIH), noisy (strips labelled ~) or in between (NSTDB)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vitalgate.scoring import databases
from vitalgate.scoring.beats import percent
from vitalgate.scoring.databases import Database
from vitalgate.signal.quality import Grade, Stretch, signal_quality

#: NSTDB: from five minutes on two noisy minutes and two clean ones in turn.
NOISE_FROM_S, NOISE_PERIOD_S = 300.0, 240.0


def score_quality(folder: Path) -> dict[str, Any]:
    """The ``quality`` part of the document, of an MIT-BIH, NSTDB or CinC 2017 folder; shares of 10-s stretches."""
    match databases.recognise(folder):
        case Database.CINC_2017:
            return _strips(folder)
        case Database.NOISE_STRESS:
            return _noise(folder)
        case _:
            return _clean(folder)


def shares(stretches: Iterable[Stretch]) -> dict[str, Any]:
    """Percent of stretches of each grade, and why those that are not good are not."""
    listed = list(stretches)
    grades = Counter(stretch.grade for stretch in listed)
    reasons = Counter(str(stretch.reason.value) for stretch in listed if stretch.reason is not None)
    total = len(listed)
    return {
        **{str(grade.value): percent(grades[grade] / total if total else float("nan")) for grade in Grade},
        "stretches": total,
        "reasons": ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "-",
    }


def _clean(folder: Path) -> dict[str, Any]:
    records: dict[str, Any] = {}
    every: list[Stretch] = []
    for name in databases.names(folder):
        recording = databases.read_recording(folder, name)
        graded = signal_quality(recording.signals[0], recording.fs)[0]
        records[name] = shares(graded)
        every += graded
    pooled = shares(every)
    return {"clean_called_bad": pooled["bad"], "lead": "first", "pooled": pooled, "records": records}


def _noise(folder: Path) -> dict[str, Any]:
    levels: dict[str, dict[bool, list[Stretch]]] = {}
    for name in databases.names(folder):
        recording = databases.read_recording(folder, name)
        level = str(int(name.split("e")[1].replace("_", "-")))
        by_noise = levels.setdefault(level, {True: [], False: []})
        for stretch in signal_quality(recording.signals[0], recording.fs)[0]:
            if stretch.onset < NOISE_FROM_S * recording.fs:
                continue
            within = ((stretch.onset + stretch.offset) / 2 / recording.fs - NOISE_FROM_S) % NOISE_PERIOD_S
            by_noise[within < NOISE_PERIOD_S / 2].append(stretch)
    ordered = sorted(levels.items(), key=lambda item: -int(item[0]))
    return {
        "lead": "first",
        "noisy_db": {level: shares(found[True]) for level, found in ordered},
        "between_db": {level: shares(found[False]) for level, found in ordered},
    }


def _strips(folder: Path) -> dict[str, Any]:
    by_label: dict[str, list[Stretch]] = {}
    strips: Counter[str] = Counter()
    good: Counter[str] = Counter()
    for strip in databases.read_strips(folder):
        graded = signal_quality(strip.signal, strip.fs)[0]
        by_label.setdefault(strip.label, []).extend(graded)
        strips[strip.label] += 1
        good[strip.label] += all(stretch.grade is Grade.GOOD for stretch in graded)
    noisy = shares(by_label.get("~", []))
    return {
        "noise_called_good": noisy["good"],
        "noise_strips_called_good": percent(good["~"] / strips["~"] if strips["~"] else float("nan")),
        "noise_strips": strips["~"],
        "labels": {label: shares(graded) for label, graded in sorted(by_label.items())},
    }
