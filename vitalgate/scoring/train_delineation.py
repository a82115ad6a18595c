"""Train the trees of ``signal.delineation``: ``python -m vitalgate.scoring.train_delineation DATA``.

DATA holds the folder ludb. Needs scikit-learn, at training time only. Everything is seeded. Four groups of records are
each judged, by the same code that scores a folder, with trees that saw nothing of them; the models' cards say what came
of it. The boundaries are trained on waves found by trees that did not see the record, as they will be in use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.databases import TwelveLeads
from vitalgate.scoring.delineation import by_beat, score_delineation
from vitalgate.scoring.fitting import MODELS, SEED, fit
from vitalgate.signal import boundaries, waves
from vitalgate.signal.beats import find_beats_together
from vitalgate.signal.boundaries import Edge
from vitalgate.signal.complexes import TIMES_S, Complexes, cut_complexes
from vitalgate.signal.delineation import MARKS
from vitalgate.signal.trees import Boosted, from_document
from vitalgate.signal.waves import Search

Floats = NDArray[np.float64]
PARTS = 4
#: Leads of each record that are also shown by themselves, so that one lead alone can be judged.
LEADS_ALONE = 2
#: Share of the places that is used: neighbouring ones are much alike.
_WAVE_SHARE, _EDGE_SHARE = 0.4, 0.1

_WAVES = {
    "max_iter": 100, "learning_rate": 0.12, "min_samples_leaf": 30, "l2_regularization": 5.0, "max_features": 0.4,
    "early_stopping": False,
}  # fmt: skip
_EDGES = {
    "max_iter": 120, "learning_rate": 0.12, "min_samples_leaf": 50, "l2_regularization": 5.0, "max_features": 0.3,
    "early_stopping": False,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Example:
    """Beats of one record, by all its leads or by one, with their reference marks in s from the middle of the QRS."""

    record: str
    beats: Complexes
    reference: Floats
    annotated: NDArray[np.bool_]


def read_examples(folder: Path) -> list[Example]:
    """Every record by all its leads, and by a few of them alone."""
    rng = np.random.default_rng(SEED)
    examples = []
    for name in databases.names(folder):
        record = databases.read_twelve_leads(folder, name)
        at = find_beats_together(record.signals, record.fs)
        examples.append(_example(record, at, np.arange(len(record.leads))))
        alone = rng.choice(len(record.leads), LEADS_ALONE, replace=False)
        examples += [_example(record, at, np.array([lead])) for lead in alone]
    return examples


def _example(record: TwelveLeads, at: NDArray[np.int64], leads: NDArray[np.int64]) -> Example:
    beats = cut_complexes(record.signals[leads], record.fs, at, 0)
    reference = (by_beat(record, at)[:, leads] - beats.middle[:, np.newaxis, np.newaxis]) / record.fs
    marked = np.asarray(~np.isnan(reference[:, :, MARKS.index("qrs_peak")]))
    return Example(record.name, beats, reference, np.asarray(marked.any(axis=1)))


def _median(values: Floats) -> Floats:
    """Over the leads, NaN where none is marked."""
    out = np.full(len(values), np.nan)
    for k, row in enumerate(values):
        if not np.isnan(row).all():
            out[k] = np.median(row[~np.isnan(row)])
    return out


def wave_rows(example: Example, search: Search) -> tuple[Floats, NDArray[np.bool_]]:
    """Features and labels of every place, of beats that are annotated: (n_beats, n_places, ...)."""
    wave = "p" if search is waves.P else "t"
    onset, offset = (_median(example.reference[:, :, MARKS.index(f"{wave}_{end}")]) for end in ("on", "off"))
    use = example.annotated.copy()
    marked = np.flatnonzero(use)
    if len(marked):
        # Of the outermost beat this wave may simply not have been marked.
        edge = marked[0] if wave == "p" else marked[-1]
        use[edge] = not np.isnan(onset[edge])
    times = TIMES_S[waves.columns(search)]
    inside = (times >= onset[:, np.newaxis]) & (times <= offset[:, np.newaxis])
    return waves.features(example.beats, search)[use], inside[use]


def edge_rows(example: Example, edge: Edge, found: waves.Found | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Features and labels of every place of every marked boundary: (n_marked, n_places, ...)."""
    zero = np.zeros(len(example.beats.middle))
    centre, width = (zero, zero) if found is None else (found.centre_s, found.width_s)
    mark = example.reference[:, :, MARKS.index(f"{edge.wave}_{'on' if edge.outward < 0 else 'off'}")]
    distance = edge.outward * (mark - centre[:, np.newaxis])
    beat, lead = np.nonzero((np.abs(distance) < 0.3) & example.beats.valid)
    table = boundaries.features(example.beats, edge, centre, width)[beat, lead]
    return table, boundaries.places(edge) < distance[beat, lead][:, np.newaxis]


def train(examples: Sequence[Example], group: Mapping[str, int], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Models for each group left out, and last those of all records: a document by name, each."""
    documents: list[dict[str, Any]] = [{} for _ in range(PARTS + 1)]
    found: dict[str, list[waves.Found]] = {}
    for search in (waves.P, waves.T):
        rows = [wave_rows(example, search) for example in examples]
        _fit_all(documents, search.name, rows, examples, group, _WAVES, share=_WAVE_SHARE)
        judged = [from_document(documents[group[example.record]][search.name]) for example in examples]
        found["p" if search is waves.P else "t"] = [
            waves.find_waves(example.beats, search, trees) for example, trees in zip(examples, judged, strict=True)
        ]
        say(search.name)
    for edge in boundaries.EDGES:
        centres = found.get(edge.wave, [None] * len(examples))
        rows = [edge_rows(example, edge, centre) for example, centre in zip(examples, centres, strict=True)]
        _fit_all(documents, edge.name, rows, examples, group, _EDGES, share=_EDGE_SHARE)
        say(edge.name)
    return documents


def _fit_all(
    documents: list[dict[str, Any]], name: str, rows: Sequence[tuple[NDArray[Any], NDArray[np.bool_]]],
    examples: Sequence[Example], group: Mapping[str, int], settings: dict[str, Any], *, share: float,
) -> None:  # fmt: skip
    rng = np.random.default_rng(SEED)
    wide = rows[0][0].shape[-1]
    chosen = [rng.random(label.shape) < share for _, label in rows]
    x = [table[pick].reshape(-1, wide) for (table, _), pick in zip(rows, chosen, strict=True)]
    y = [label[pick].astype(int) for (_, label), pick in zip(rows, chosen, strict=True)]
    for part in range(PARTS + 1):
        kept = [k for k, example in enumerate(examples) if group[example.record] != part]
        table, label = np.concatenate([x[k] for k in kept]), np.concatenate([y[k] for k in kept])
        columns = [str(k) for k in range(wide)]
        documents[part][name] = fit(table, label, np.ones(len(label)), columns, settings, {})


def main(arguments: Sequence[str]) -> None:
    """Train, judge what was left out, and write the models."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m vitalgate.scoring.train_delineation DATA")
    folder = Path(arguments[0]) / "ludb"
    names = databases.names(folder)
    order = np.random.default_rng(SEED).permutation(len(names))
    group = {names[k]: part % PARTS for part, k in enumerate(order)}
    judge(folder, train(read_examples(folder), group, lambda text: print(text, flush=True)), group)


def judge(folder: Path, documents: Sequence[Mapping[str, dict[str, Any]]], group: Mapping[str, int]) -> None:
    """Score every record with the models that did not see it, and write the last models with that on their cards."""
    names = databases.names(folder)
    models: list[dict[str, Boosted]] = [
        {name: from_document(document) for name, document in part.items()} for part in documents
    ]
    card = {
        "what": "delineation: where P and T waves are, and where P, QRS and T begin and end",
        "trained_on": f"Lobachevsky University Database, {len(names)} records, all leads together and "
        f"{LEADS_ALONE} leads of each alone",
        "records": names,
        "not_for": "P waves that do not belong to a QRS; paced rhythm and children, of whom the database has few",
    }
    _write(documents[-1], card)
    score = score_delineation(folder, lambda record: models[group[record]])
    parts = {"left_out": score, "left_out_together": score["together"], "left_out_alone": score["alone"]}
    how = {"how": f"{PARTS} groups of records, each judged by models that did not see it"}
    shown = {
        name: how | {mark: {key: part[mark][key] for key in ("se", "ppv", "mean_ms", "sd_ms")} for mark in MARKS}
        for name, part in parts.items()
    }
    _write(documents[-1], card | shown)
    print(json.dumps({name: part for name, part in score.items() if name != "leads"}, indent=1))


def _write(documents: Mapping[str, dict[str, Any]], card: Mapping[str, Any]) -> None:
    for name, document in documents.items():
        text = json.dumps(document | {"card": {**card, **document["card"]}}, separators=(",", ":"))
        (MODELS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
