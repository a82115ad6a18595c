"""The whole score of a folder as one document, and that document as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitalgate.scoring import databases
from vitalgate.scoring.alarms import score_alarms
from vitalgate.scoring.beats import score_beats
from vitalgate.scoring.classes import score_classes
from vitalgate.scoring.databases import Database, DatabaseError
from vitalgate.scoring.delineation import score_delineation
from vitalgate.scoring.detectors import OURS
from vitalgate.scoring.fibrillation import score_fibrillation
from vitalgate.scoring.quality import score_quality
from vitalgate.scoring.rhythm import score_rhythm
from vitalgate.scoring.strips import score_strips

Progress = Callable[[str], None]


def score_folder(
    folder: Path, lead: str | None = None, detector_name: str = OURS, stream: int | None = None
) -> dict[str, Any]:
    """Score what a folder holds.

    Raises
    ------
    DatabaseError
        If it holds no known database, or one that the detector cannot be scored on.
    UnknownDetector
        If the detector is not installed, or cannot be streamed.
    """
    kind = databases.recognise(folder)
    document: dict[str, Any] = {"database": str(kind), "n_records": len(databases.names(folder))}
    ours = detector_name == OURS
    if kind in (Database.MIT_BIH, Database.NOISE_STRESS, Database.LUDB):
        document["beats"] = score_beats(folder, lead, detector_name, stream)
    if ours and kind is Database.MIT_BIH:
        document |= score_classes(folder)
    if ours and kind in (Database.MIT_BIH, Database.AFDB):
        document["af"] = score_fibrillation(folder)
    if ours and kind is Database.MIT_BIH:
        document |= score_rhythm(folder)
    if ours and kind is Database.CINC_2017:
        document["strips"] = score_strips(folder)
    if ours and kind in (Database.MIT_BIH, Database.NOISE_STRESS, Database.CINC_2017):
        document["quality"] = score_quality(folder)
    if ours and kind is Database.LUDB:
        document["delineation"] = score_delineation(folder)
    if ours and kind in (Database.MIT_BIH, Database.NOISE_STRESS, Database.AFDB):
        document["alarms"] = score_alarms(folder)
    if not ours and "beats" not in document:
        raise DatabaseError(f"{folder} holds {kind}, which scores no beat detector; leave --detector out")
    return document


def text(document: dict[str, Any]) -> str:
    """A document as tables, one part after the other."""
    lines = [f"{document['database']}: {document['n_records']} records"]
    for name, part in document.items():
        if isinstance(part, dict):
            lines += ["", name, *_part(part)]
    return "\n".join(lines)


def rows(document: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Every leaf of a document with its dotted key, for CSV."""
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += rows(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value))
    return found


def _part(part: dict[str, Any]) -> list[str]:
    """Plain values first; then the groups that have the same columns under one head each."""
    lines = [f"  {key}: {_shown(value)}" for key, value in part.items() if not isinstance(value, dict)]
    tables: list[tuple[tuple[str, ...], list[tuple[str, dict[str, Any]]]]] = []
    for label, group in _groups(part, ""):
        columns = tuple(key for key, value in group.items() if not isinstance(value, str | list))
        notes = [f"{key}: {_shown(value)}" for key, value in group.items() if isinstance(value, str | list)]
        if not columns:
            lines += [f"  {label}: {note}" for note in notes]
        elif tables and tables[-1][0] == columns:
            tables[-1][1].append((label, group))
        else:
            tables.append((columns, [(label, group)]))
    for columns, groups in tables:
        wide = max(len(label) for label, _ in groups)
        lines.append("  " + " " * wide + "".join(f"{column:>12}" for column in columns))
        lines += [
            f"  {label:<{wide}}" + "".join(f"{_shown(group[column]):>12}" for column in columns)
            for label, group in groups
        ]
    return lines


def _groups(part: dict[str, Any], prefix: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for key, value in part.items():
        if isinstance(value, dict):
            flat = {k: v for k, v in value.items() if not isinstance(v, dict)}
            if flat:
                found.append((f"{prefix}{key}", flat))
            found += _groups(value, f"{prefix}{key}.")
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
