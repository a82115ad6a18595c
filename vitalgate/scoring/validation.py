"""Write docs/validation.md: ``python -m vitalgate.scoring.validation DATA docs/validation.md``.

DATA holds the databases in folders of their own. Every figure in the document comes from this run or from the card that
a model was written with.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitalgate.scoring import databases
from vitalgate.scoring.report import score_folder, text
from vitalgate.signal import beats, classes, fibrillation, quality, strips
from vitalgate.signal.trees import model

_PARTS: tuple[Any, ...] = (beats, classes, fibrillation, strips, quality)

_FITTED = {
    "mitdb": "The thresholds of the beat detector were chosen on these records and NSTDB. Beat classes were trained on "
    "these records (DS1): `v` and `s` are figures of the training records; what counts is the card's `left out`, "
    "below. The fibrillation model saw these records too.",
    "nstdb": "The thresholds of the beat detector were chosen with these records in view.",
    "ludb": "Nothing was fitted on these records; they were looked at while the detector was chosen.",
    "afdb": "The fibrillation model was trained on these records: these are figures of the training records; what "
    "counts is the card's `left out`, below.",
    "cinc2017": "The strip model was trained on these strips: these are figures of the training strips; what counts is "
    "the card's `left out`, below.",
}


def document(folder: Path) -> str:
    """The whole text."""
    lines = [
        "# How good the signal engine is", "",
        "Written by `python -m vitalgate.scoring.validation DATA docs/validation.md`. Shares are percent. Beats match "
        "as ANSI/AAMI EC57 says (150 ms, one to one, flutter left out); the tables say which records and what was left "
        "out.",
        "", "Versions: " + ", ".join(f"{part.NAME} {part.VERSION}" for part in _PARTS) + ".",
    ]  # fmt: skip
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            kind = databases.recognise(part)
        except databases.DatabaseError:
            continue
        lines += ["", f"## {kind}", "", _FITTED[kind], "", "```text", text(score_folder(part)), "```"]
    lines += ["", "## Models, and what records left out gave", ""]
    for name in ("beat-classes", "fibrillation", "strips"):
        lines += [f"### {name}", "", *_card(model(name).card), ""]
    lines += ["## Not reached, not there", "", *_OPEN]
    return "\n".join(lines).rstrip() + "\n"


_OPEN = (
    "- Delineation (P, QRS, T) and QT are not part of the engine yet, nor are runs of ventricular beats, bigeminy and",
    "  respiration from the ECG.",
    "- Beats are scored on lead 0 alone: in 116 and 208 that lead is lost for seconds, and the beats there are missed.",
    "- A learned classifier of beat candidates was tried (boosted trees on 23 features, records left out): it did",
    "  worse than the rules, and is not used.",
)


def _card(card: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in card.items():
        if isinstance(value, dict):
            value = "; ".join(f"{k}: {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        lines.append(f"- **{key.replace('_', ' ')}**: {value}")
    return lines


def main(arguments: Sequence[str]) -> None:
    """Write the document."""
    if len(arguments) != 2:
        raise SystemExit("usage: python -m vitalgate.scoring.validation DATA FILE")
    Path(arguments[1]).write_text(document(Path(arguments[0])), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
