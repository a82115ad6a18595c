"""Beats that the system found in replayed recordings, against the reference and against the detector run offline.

The detector and the matching are handed in, so that the simulators need nothing of the signal room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import psycopg
from numpy.typing import NDArray

from vitalgate.simulators.recordings import Reference, reference
from vitalgate.simulators.replay import Part

Index = NDArray[np.int64]
Detector = Callable[[NDArray[np.float64], float], Index]
"""(signal in mV, sampling rate) to samples of R peaks."""


class Counts(Protocol):
    """What matching gives: pairs, missed, false."""

    @property
    def tp(self) -> int: ...  # noqa: D102
    @property
    def fn(self) -> int: ...  # noqa: D102
    @property
    def fp(self) -> int: ...  # noqa: D102


Matcher = Callable[[Index, Index, float, Sequence[tuple[int, int]]], Counts]
"""(reference, detected, rate, excluded segments) to counts."""


@dataclass(frozen=True)
class Scored:
    """One recording."""

    name: str
    channel: str
    found: int
    """Beats in the database."""
    offline: int
    """Beats of the detector run offline."""
    differing: int
    """Beats that only one of the two has."""
    tp: int | None
    """None when there is no reference."""
    fn: int | None
    fp: int | None

    @property
    def se(self) -> float | None:
        """Sensitivity, or None."""
        return None if self.tp is None or self.fn is None or not self.tp + self.fn else self.tp / (self.tp + self.fn)

    @property
    def ppv(self) -> float | None:
        """Positive predictivity, or None."""
        return None if self.tp is None or self.fp is None or not self.tp + self.fp else self.tp / (self.tp + self.fp)


def stored_beats(database: psycopg.Connection[Any], device: str, channel: str, recording: str) -> Index:
    """Samples of all beats in the database, in order."""
    row = database.execute(
        "SELECT coalesce(array_agg(sample ORDER BY sample), '{}') FROM beats"
        " WHERE device_id = %s AND channel = %s AND recording = %s",
        (device, channel, recording),
    ).fetchone()
    assert row is not None
    return np.asarray(row[0], np.int64)


def score(parts: Sequence[Part], dsn: str, schema: str, detect: Detector, match: Matcher) -> list[Scored]:
    """Score the first channel of each recording, and compare with the same detector offline."""
    scored = []
    with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}_data") as database:
        for part in parts:
            recording = part.recording
            channel = recording.channels[0]
            found = stored_beats(database, part.prop.device, channel.name, recording.name)
            fs = float(recording.rate)
            offline = detect(channel.physical(), fs)
            truth: Reference | None = reference(recording.path, stop=recording.count)
            counts = match(truth.beats, found, fs, truth.flutter) if truth is not None else None
            scored.append(
                Scored(
                    recording.name, channel.name, len(found), len(offline), len(np.setxor1d(found, offline)),
                    counts.tp if counts else None, counts.fn if counts else None, counts.fp if counts else None,
                )
            )  # fmt: skip
    return scored


def pooled(scored: Sequence[Scored]) -> Scored:
    """All recordings with a reference, their counts added up (gross statistics)."""
    judged = [one for one in scored if one.tp is not None]
    return Scored(
        "gross", "", sum(one.found for one in scored), sum(one.offline for one in scored),
        sum(one.differing for one in scored),
        sum(one.tp or 0 for one in judged) if judged else None,
        sum(one.fn or 0 for one in judged) if judged else None,
        sum(one.fp or 0 for one in judged) if judged else None,
    )  # fmt: skip
