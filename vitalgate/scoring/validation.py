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
from vitalgate.scoring.fitting import MODELS
from vitalgate.scoring.report import score_folder, text
from vitalgate.signal import beats, classes, delineation, fibrillation, intervals, quality, strips
from vitalgate.signal.trees import model

_PARTS: tuple[Any, ...] = (beats, classes, fibrillation, strips, quality, delineation, intervals)

_FITTED = {
    "mitdb": "The thresholds of the beat detector were chosen on these records and NSTDB. Beat classes were trained on "
    "these records (DS1): `v` and `s` are figures of the training records; what counts is the card's `left out`, "
    "below. The two fibrillation models saw these records too: their `left out` counts. Alarms on ventricular beats "
    "and on fibrillation rest on these models, and are to be read as theirs.",
    "nstdb": "The thresholds of the beat detector were chosen with these records in view, and so was it that beats on "
    "bad signal raise no alarm by their class. Nothing is wrong with the patient of record 118 that an alarm is for: "
    "every alarm here is false.",
    "ludb": "Beats: nothing was fitted on these records; they were looked at while the detector was chosen. "
    "Delineation was trained on them: these are figures of the training records; what counts is the card's `left out`, "
    "below.",
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
    for name in sorted(path.stem for path in MODELS.glob("*.json")):
        # The models of delineation have one card.
        if not name.startswith("delineation-") or name == "delineation-p-on":
            lines += [f"### {name}", "", *_card(model(name).card), ""]
    lines += ["## Not reached, not there", "", *_OPEN]
    return "\n".join(lines).rstrip() + "\n"


_OPEN = (
    "- Alarms: `reference` and `told` are alerts, not events: what comes again within the quiet or settle time is one.",
    "  The two false ones of ventricular fibrillation are fast ventricular tachycardias of 205; those of atrial",
    "  fibrillation are rhythms of 207, 220 and 223 that are irregular for other reasons. The false ventricular",
    "  tachycardias are runs of three beats in 203 (noise, fibrillation), 207 and 208. At 12 dB of noise and less much",
    "  is called usable, not bad, and classes are wrong there: the false alarms of NSTDB.",
    "- Delineation: the limits of the CSE working party are for one boundary of all leads together; on records left",
    "  out `together` is within all of them. Lead by lead (the rows without a prefix) onset and offset of P and onset",
    "  of QRS are not. With each lead's mean error in each record taken away, as if somebody had told it, 11.5 ms are",
    "  left for the onset of P and 6.4 ms for that of QRS, on records left out: that is how far one lead's reference",
    "  marks scatter from beat to beat (`reference_scatter`), and no rule is better by much. Tried and not used: a",
    "  second stage that corrects each lead's boundary by those of the other leads (boosted trees and extremely",
    "  randomised trees on their quantiles, on the most similar leads, on amplitude, form and the lead's name). On",
    "  records left out it took the onset of P from 16.1 to 15.7 ms and its offset from 14.1 to 13.8, and made the",
    "  onset of QRS and a lead alone worse. A twentieth of the onsets of P make 60 % of the squared error, most in a",
    "  few records with faint P waves (56, 60, 17, 76, 22). P waves that belong to no QRS (complete heart block) are",
    "  not sought.",
    "- Beat classes: S is poor on records left out. What is missed is atrial beats without a change of form or P wave",
    "  that one lead shows (207, 209), and what is called S wrongly is the early beats of fibrillation (203). F is in",
    "  the given half almost only in 208, so nothing general was learned of it; Q is not predicted.",
    "- V on records left out is short of 92 / 92 by half a point. 203 (noise, fibrillation), 207 (bundle branch block",
    "  of both sides) and aberrant atrial beats of 201 make nearly all false ones; in 223 ventricular beats of the",
    "  sinus beats' width are missed, in 207 most of one form. Half of a beat's odds are those of the beats like it",
    "  in its 10-s block: that brought the point where Se and +P are the same from 90.8 to 91.5. Two minutes in place",
    "  of 10 s would bring 91.9 to 92.1, but need twice the history of every patient. Tried: what both leads show",
    "  in one model made it worse (88.6); other rates, leaf sizes and weights, and leads turned upside down in",
    "  training, moved it by less than another seed does (0.4).",
    "- Beats of one form that share odds have a price in fusion beats: of 371 in 208 111 are called V (43 before);",
    "  EC57 does not count them, but couplets do (by rule, +P 89.9 to 79.5). Two more trigeminy alerts",
    "  are missed on these records.",
    "- The new odds of V cost fibrillation with a signal something on records left out (at the old limit of 0.3 in",
    "  MIT-BIH Se 96.8 to 91.7, all of it in 203; strips Se 91.8 to 89.7), so its limit is 0.2 now: see the card.",
    "- Beats of LUDB: the one miss and the one false beat are one paced beat of 95, whose reference mark is at the",
    "  spike, 166 ms before ours.",
    "- Fibrillation by intervals, on AFDB records left out: most misses are in 04043, 07859 and 08378, most false ones",
    "  in 04015 and 04908.",
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
