"""Annotated ECG databases: which one a folder holds, and its records.

WFDB files are read by the ``wfdb`` package; AFDB is read as text (``qrsNNNNN.txt`` with index, RR interval and sample;
``atrNNNNN.txt`` with the changes of rhythm).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Annotation symbols that stand for a beat.
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")

#: EC57's classes of the symbols (de Chazal 2004: e and j count as N; unpaced and paced alike keep their own letters).
AAMI = (
    dict.fromkeys("NLRBejn", "N") | dict.fromkeys("AaJS", "S") | dict.fromkeys("VEr", "V") | {"F": "F"}
    | dict.fromkeys("/fQ?", "Q")
)  # fmt: skip

#: Records with a pacemaker, which EC57 leaves out.
PACED = frozenset({"102", "104", "107", "217"})

AFDB_RATE = 250.0


class Database(StrEnum):
    """The databases that are known."""

    MIT_BIH = "mitdb"
    NOISE_STRESS = "nstdb"
    LUDB = "ludb"
    AFDB = "afdb"
    CINC_2017 = "cinc2017"


class DatabaseError(Exception):
    """A folder holds no known database, or one that cannot be read."""


@dataclass(frozen=True, eq=False)
class Rhythm:
    """One rhythm annotation: its label without the bracket, from ``onset`` up to the next one, samples."""

    onset: int
    offset: int
    label: str


@dataclass(frozen=True, eq=False)
class Recording:
    """One annotated record.

    Attributes
    ----------
    signals
        (n_leads, n_samples) float32, mV.
    beats, symbols
        Sample of each reference beat, and its annotation symbol.
    flutter
        Segments of ventricular flutter (first, last sample).
    """

    name: str
    leads: tuple[str, ...]
    signals: NDArray[np.float32]
    fs: float
    beats: NDArray[np.int64]
    symbols: NDArray[np.str_]
    flutter: tuple[tuple[int, int], ...] = ()
    rhythms: tuple[Rhythm, ...] = ()


@dataclass(frozen=True, eq=False)
class Intervals:
    """One AFDB record as text: the sample of each reference beat and the rhythms."""

    name: str
    fs: float
    beats: NDArray[np.int64]
    rhythms: tuple[Rhythm, ...]


@dataclass(frozen=True, eq=False)
class Strip:
    """One CinC 2017 strip: a single lead in mV and its label: N, A, O or ~."""

    name: str
    signal: NDArray[np.float32]
    fs: float
    label: str


@dataclass(frozen=True, eq=False)
class Wave:
    """One annotated wave of LUDB: P, QRS or T; samples, None where an end was not marked."""

    kind: str
    onset: int | None
    peak: int
    offset: int | None


@dataclass(frozen=True, eq=False)
class TwelveLeads:
    """One LUDB record: 12 leads in mV and the waves of each lead."""

    name: str
    leads: tuple[str, ...]
    signals: NDArray[np.float32]
    fs: float
    waves: tuple[tuple[Wave, ...], ...]


def recognise(folder: Path) -> Database:
    """Which database a folder holds.

    Raises
    ------
    DatabaseError
        If it is no folder, or holds none that is known.
    """
    if not folder.is_dir():
        raise DatabaseError(f"{folder} is no folder")
    if (folder / "REFERENCE.csv").is_file():
        return Database.CINC_2017
    if any(folder.glob("qrs*.txt")):
        return Database.AFDB
    if any(folder.glob("*.hea")):
        if any(folder.glob("*.ii")):
            return Database.LUDB
        annotated = [path.stem for path in folder.glob("*.atr")]
        if annotated:
            noisy = all(re.fullmatch(r"\d+e(_\d|\d\d)", name) for name in annotated)
            return Database.NOISE_STRESS if noisy else Database.MIT_BIH
    raise DatabaseError(
        f"{folder} holds no database that is known: expected WFDB records with .atr (MIT-BIH, NSTDB), 12-lead records "
        "with an annotation file a lead (LUDB), qrs*.txt with atr*.txt (AFDB), or REFERENCE.csv (CinC 2017)"
    )


def names(folder: Path) -> list[str]:
    """Names of the records in a folder, sorted (by number where they are numbers)."""
    match recognise(folder):
        case Database.CINC_2017:
            found = [path.stem for path in folder.glob("*.mat")]
        case Database.AFDB:
            found = [
                path.stem[3:] for path in folder.glob("qrs*.txt") if (folder / f"atr{path.stem[3:]}.txt").is_file()
            ]
        case Database.LUDB:
            found = [path.stem for path in folder.glob("*.ii")]
        case _:
            found = [path.stem for path in folder.glob("*.atr") if path.with_suffix(".hea").is_file()]
    return sorted(found, key=lambda name: (int(name) if name.isdigit() else 0, name))


def read_recording(folder: Path, name: str) -> Recording:
    """Read one WFDB record with its ``.atr`` annotations."""
    import wfdb

    record, notes = wfdb.rdrecord(str(folder / name)), wfdb.rdann(str(folder / name), "atr")
    at, symbols = np.asarray(notes.sample, np.int64), np.asarray(notes.symbol, dtype=np.str_)
    beat = np.array([symbol in BEAT_SYMBOLS for symbol in symbols], np.bool_)
    flutter, begin = [], None
    for sample, symbol in zip(at.tolist(), symbols.tolist(), strict=True):
        if symbol == "[":
            begin = sample
        elif symbol == "]" and begin is not None:
            flutter.append((begin, sample))
            begin = None
    changes = [
        (sample, note.rstrip("\0")[1:])
        for sample, symbol, note in zip(at.tolist(), symbols.tolist(), notes.aux_note, strict=True)
        if symbol == "+" and note.startswith("(")
    ]
    return Recording(
        name=name,
        leads=tuple(record.sig_name),
        signals=np.ascontiguousarray(record.p_signal.T, np.float32),
        fs=float(record.fs),
        beats=at[beat],
        symbols=symbols[beat],
        flutter=tuple(flutter),
        rhythms=_rhythms(changes, int(record.sig_len)),
    )


def read_intervals(folder: Path, name: str) -> Intervals:
    """Read one AFDB record as text."""
    beats = []
    for line in (folder / f"qrs{name}.txt").read_text(encoding="utf-8").splitlines():
        parts = line.split()
        if len(parts) >= 3:
            beats.append(int(parts[2]))
    changes = []
    for line in (folder / f"atr{name}.txt").read_text(encoding="utf-8").splitlines():
        parts = line.split()
        if len(parts) >= 7 and parts[1].isdigit() and parts[-1].startswith("("):
            changes.append((int(parts[1]), parts[-1][1:]))
    at = np.array(sorted(beats), np.int64)
    return Intervals(name, AFDB_RATE, at, _rhythms(changes, int(at[-1]) + 1 if len(at) else 0))


def read_strips(folder: Path) -> list[Strip]:
    """Read every CinC 2017 strip of a folder that has a label."""
    import wfdb

    with (folder / "REFERENCE.csv").open(encoding="utf-8", newline="") as file:
        labels = {row[0]: row[1] for row in csv.reader(file) if len(row) >= 2}
    strips = []
    for name in names(folder):
        if name in labels:
            record = wfdb.rdrecord(str(folder / name))
            strips.append(Strip(name, record.p_signal[:, 0].astype(np.float32), float(record.fs), labels[name]))
    return strips


def read_twelve_leads(folder: Path, name: str) -> TwelveLeads:
    """Read one LUDB record with the annotations of each lead."""
    import wfdb

    record = wfdb.rdrecord(str(folder / name))
    waves = []
    for lead in record.sig_name:
        notes = wfdb.rdann(str(folder / name), lead.lower())
        waves.append(_waves(notes.sample.tolist(), list(notes.symbol)))
    signals = np.ascontiguousarray(record.p_signal.T, np.float32)
    return TwelveLeads(name, tuple(record.sig_name), signals, float(record.fs), tuple(waves))


def _waves(samples: list[int], symbols: list[str]) -> tuple[Wave, ...]:
    """Brackets round each peak are its ends; one may be missing."""
    kinds = {"p": "P", "N": "QRS", "t": "T"}
    found = []
    for k, symbol in enumerate(symbols):
        if symbol in kinds:
            onset = samples[k - 1] if k and symbols[k - 1] == "(" else None
            offset = samples[k + 1] if k + 1 < len(symbols) and symbols[k + 1] == ")" else None
            found.append(Wave(kinds[symbol], onset, samples[k], offset))
    return tuple(found)


def _rhythms(changes: list[tuple[int, str]], end: int) -> tuple[Rhythm, ...]:
    ends = [sample for sample, _ in changes[1:]] + [end]
    return tuple(Rhythm(onset, offset, label) for (onset, label), offset in zip(changes, ends, strict=True))
