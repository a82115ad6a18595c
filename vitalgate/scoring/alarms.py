"""Alarms per hour of annotated recordings, true and false, by rule, with the true ones that were missed beside them.

Both sides are alarms: those that the running analysis and the shipped rules raise on the signal, as they come in, and
those that the same rules raise on what is annotated (``alarm_reference``). An alarm is

- *told* when people were notified of it: not what a higher alarm says already, nor what was over when it was found;
- *true* when its cause overlaps in time the cause of a reference alarm of the same rule;
- *implied* when it does not, but overlaps one of a rule that suppresses it (tachycardia told within fibrillation);
- *false* otherwise. What was told and taken back later counts as told: somebody had looked up.

*Missed* is a reference alarm that overlaps no alarm of its rule, told or not, that still stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from vitalgate.alerts import rules
from vitalgate.alerts.rules import Book
from vitalgate.scoring import databases
from vitalgate.scoring.alarm_path import Alarm, Line, alarms_of_signals
from vitalgate.scoring.alarm_reference import (
    alarms_of_intervals,
    given,
    given_intervals,
    labelled_fibrillation,
    reference_alarms,
)
from vitalgate.scoring.databases import PACED, Database

#: Of the technical rules only those on these features are about a recording; no database annotates them.
_QUALITY = frozenset({"feature/quality"})
_FIBRILLATION = ("feature/event.af", "feature/af.burden")


@dataclass
class Count:
    """Alarms of one rule in some hours of recording."""

    reference: int = 0
    missed: int = 0
    told: int = 0
    true: int = 0
    implied: int = 0
    false: int = 0
    taken_back: int = 0
    """Of those told."""
    waits_s: list[float] = field(default_factory=list)
    """From onset to being told, of the true ones."""

    def add(self, other: Count) -> None:
        """Pool."""
        for name in ("reference", "missed", "told", "true", "implied", "false", "taken_back"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.waits_s += other.waits_s

    def row(self, hours: float) -> dict[str, Any]:
        """The columns of a table."""
        wait = round(median(self.waits_s), 1) if self.waits_s else None
        return {
            "reference": self.reference, "missed": self.missed, "told": self.told, "true": self.true,
            "implied": self.implied, "false": self.false, "taken_back": self.taken_back,
            "true_per_h": self.true / hours, "false_per_h": self.false / hours, "wait_s": wait,
        }  # fmt: skip


def score_alarms(folder: Path, book: Book | None = None) -> dict[str, Any]:
    """The part ``alarms`` of the document of an MIT-BIH, NSTDB or AFDB folder.

    Parameters
    ----------
    book
        The rules; the shipped ones by default.

    Raises
    ------
    DatabaseError
        If the folder holds none of these.
    """
    book = book or rules.load()
    kind = databases.recognise(folder)
    if kind is Database.AFDB:
        return _score_intervals(folder, book)
    if kind not in (Database.MIT_BIH, Database.NOISE_STRESS):
        raise databases.DatabaseError(f"{folder} holds {kind}, which has no long recordings; alarms need some")
    judged = _rules_on(book)
    recordings = [databases.read_recording(folder, name) for name in databases.names(folder)]
    lines = [Line(r.name, f"ecg.{r.leads[0]}", r.fs, r.signals[0]) for r in recordings]
    ours = _by_patient(alarms_of_signals(lines, book))
    counts: dict[str, dict[str, Count]] = {}
    seconds: dict[str, float] = {}
    for recording in recordings:
        truth = reference_alarms(given(recording), book)
        counts[recording.name] = compare(truth, ours[recording.name], book, judged)
        seconds[recording.name] = recording.signals.shape[1] / recording.fs
    own = [name for name in counts if name not in PACED]
    document: dict[str, Any] = {
        "path": "analysis and alert rules as they run, packets of 1 s, first lead",
        "reference": "the same rules on the annotations; signal quality is not annotated",
        "paced": f"apart: {', '.join(name for name in counts if name in PACED) or 'none'}",
        **_table(counts, seconds, own, judged, "rules"),
    }
    if paced := [name for name in counts if name in PACED]:
        # An alarm of a paced heart is worth a row; that there was none is told by the sum in `records`.
        table = _table(counts, seconds, paced, judged, "paced_rules")
        told = {rule: row for rule, row in table["paced_rules"].items() if row["told"] or row["reference"]}
        document |= table | {"paced_rules": told or "none told, none in the reference"}
    if kind is Database.NOISE_STRESS:
        document["noise_db"] = {name[4:].replace("_", "-").lstrip("0") or "0": _whole(counts[name], seconds[name])
                                for name in sorted(counts, key=_noise)}  # fmt: skip
    document["records"] = {name: _whole(found, seconds[name]) for name, found in counts.items()}
    return document


def compare(truth: Sequence[Alarm], ours: Sequence[Alarm], book: Book, judged: Iterable[str]) -> dict[str, Count]:
    """Count one patient's alarms by rule."""
    found: dict[str, Count] = {}
    for rule in judged:
        real = [alarm for alarm in truth if alarm.rule == rule and not alarm.retracted]
        own = [alarm for alarm in ours if alarm.rule == rule]
        implying = [a for a in truth if rule in book.rules[a.rule].suppresses]
        standing = [alarm for alarm in own if not alarm.retracted]
        count = found[rule] = Count(reference=len(real), missed=sum(not _touches(a, standing) for a in real))
        for alarm in own:
            if alarm.told_us is None:
                continue
            count.told += 1
            count.taken_back += alarm.retracted
            if _touches(alarm, real):
                count.true += 1
                count.waits_s.append((alarm.told_us - alarm.onset_us) / 1e6)
            elif _touches(alarm, implying):
                count.implied += 1
            else:
                count.false += 1
    return found


def _touches(alarm: Alarm, others: Iterable[Alarm]) -> bool:
    return any(alarm.onset_us <= other.end_us and other.onset_us <= alarm.end_us for other in others)


def _score_intervals(folder: Path, book: Book) -> dict[str, Any]:
    judged = _rules_on(book, _FIBRILLATION)
    counts: dict[str, dict[str, Count]] = {}
    seconds: dict[str, float] = {}
    for name in databases.names(folder):
        known = given_intervals(databases.read_intervals(folder, name))
        counts[name] = compare(labelled_fibrillation(known, book), alarms_of_intervals(known, book), book, judged)
        seconds[name] = known.stop / known.fs
    return {
        "path": "reference beats given (there is no signal); fibrillation by intervals, episodes, burden and rules",
        "reference": "the same rules on the rhythm labels",
        **_table(counts, seconds, list(counts), judged, "rules"),
        "records": {name: _whole(found, seconds[name]) for name, found in counts.items()},
    }


def _rules_on(book: Book, keys: Sequence[str] = ()) -> list[str]:
    """Rules that listen to nothing but features (of these keys, if given), the most pressing first."""
    found = []
    for name in book.ranked:
        asked = {term.key for term in book.terms[name]}
        if book.rules[name].kind == "technical" and not asked <= _QUALITY:
            continue
        if any(key.startswith("feature/") for key in asked) and (not keys or asked <= set(keys)):
            found.append(name)
    return found


def _table(
    counts: dict[str, dict[str, Count]], seconds: dict[str, float], names: Sequence[str], judged: Sequence[str],
    title: str,
) -> dict[str, Any]:  # fmt: skip
    hours = sum(seconds[name] for name in names) / 3600
    pooled: dict[str, Count] = defaultdict(Count)
    for name in names:
        for rule in judged:
            pooled[rule].add(counts[name][rule])
    return {f"{title}_hours": round(hours, 3), title: {rule: pooled[rule].row(hours) for rule in judged}}


def _whole(counts: dict[str, Count], seconds: float) -> dict[str, Any]:
    """All rules of one record together."""
    total = Count()
    for count in counts.values():
        total.add(count)
    return total.row(seconds / 3600)


def _by_patient(alarms: Iterable[Alarm]) -> dict[str, list[Alarm]]:
    found: dict[str, list[Alarm]] = defaultdict(list)
    for alarm in alarms:
        found[alarm.patient].append(alarm)
    return found


def _noise(name: str) -> int:
    return -int(name[4:].replace("_", "-"))
