"""Waveforms as WFDB records (PhysioNet's format), with beats as annotations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import wfdb

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.errors import StorageError, transient
from vitalgate.storage.waveforms import Stretch, Waveforms

Format = Literal["auto", "16", "212", "32"]

MAX_SAMPLES = 10_000_000
"""Samples of one signal in one record; longer recordings go on in a further record."""
#: Value of an absent sample in each format, and the range of the others.
_INVALID = {"212": -(2**11), "16": -(2**15), "32": -(2**31)}

_CHANNELS = """
    SELECT DISTINCT r.device_id, r.channel, greatest(lower(a.during), %(start)s), least(upper(a.during), %(stop)s)
    FROM recordings r JOIN assignments a ON a.device_id = r.device_id
    WHERE a.patient_id = %(patient)s AND a.during && tstzrange(%(start)s, %(stop)s)
      AND r.first_time < least(upper(a.during), %(stop)s) AND r.last_time > greatest(lower(a.during), %(start)s)
    ORDER BY 1, 3, 2
"""
_BEATS = """
    SELECT sample, kind, algorithm FROM beats
    WHERE device_id = %s AND recording = %s AND channel = %s AND sample >= %s AND sample < %s AND time BETWEEN %s AND %s
    ORDER BY sample
"""
_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Written:
    """One record."""

    path: Path
    """Without the extension."""
    signals: int
    samples: int
    beats: int


def export(
    database: DatabaseSettings, folder: Path, patient: str, start: datetime, stop: datetime, *, fmt: Format = "auto"
) -> Iterator[Written]:
    """Write a patient's waveforms of [start, stop) as WFDB records; yields each when it is done.

    Channels of one recording with the same rate become the signals of one record. Samples that are absent have the
    format's value for that. Beats are in `.atr`, one file more for each further algorithm.

    Parameters
    ----------
    fmt
        16, 212 (12 bits) or 32; auto takes the smallest of 16 and 32 that holds all samples.

    Raises
    ------
    StorageError
        When samples do not fit the format asked for.
    TransientDatabaseError
        When the database is away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    with transient(), connect(database, "export", autocommit=True) as connection:
        reader = Waveforms(connection)
        asked = {"patient": patient, "start": start, "stop": stop}
        together: dict[tuple[Any, ...], list[Stretch]] = {}
        for device, channel, low, high in connection.execute(_CHANNELS, asked).fetchall():
            for stretch in reader.read(device, channel, low, high):
                together.setdefault((device, stretch.recording, stretch.rate, low), []).append(stretch)
        for stretches in together.values():
            for part in _parts(stretches):
                yield _write(connection, folder, part, fmt, taken)


def _parts(stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    """Signals of one length; long ones in several parts. A channel whose scale changed has its own record for each."""
    by_round: list[list[Stretch]] = []
    for stretch in stretches:
        group = next((g for g in by_round if all(s.channel != stretch.channel for s in g)), None)
        if group is None:
            by_round.append([stretch])
        else:
            group.append(stretch)
    for group in by_round:
        first, stop = min(s.first for s in group), max(s.stop for s in group)
        for low in range(first, stop, MAX_SAMPLES):
            yield [stretch.between(low, min(low + MAX_SAMPLES, stop)) for stretch in group]


def _write(connection: Connection, folder: Path, signals: Sequence[Stretch], fmt: Format, taken: set[str]) -> Written:
    first = signals[0]
    name = base = _NAME.sub("-", f"{first.device}_{first.recording}").strip("-") or "record"
    number = 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    chosen = _format(signals, fmt)
    columns = []
    for stretch in signals:
        values = stretch.samples.astype(np.int64)
        values[~stretch.present] = _INVALID[chosen]
        columns.append(values)
    start = min(stretch.start for stretch in signals).astimezone(UTC)
    comments = [f"device {first.device}, recording {first.recording}, first sample {first.first}", "times are UTC"]
    comments += [
        f"{s.channel}: offset {s.scale.offset} does not fit a header and was rounded"
        for s in signals
        if s.scale.offset != round(s.scale.offset)
    ]
    wfdb.wrsamp(
        record_name=name,
        fs=_rate(first.rate),
        units=[stretch.scale.unit or "NU" for stretch in signals],
        sig_name=[stretch.channel for stretch in signals],
        d_signal=np.column_stack(columns),
        fmt=[chosen] * len(signals),
        adc_gain=[stretch.scale.gain for stretch in signals],
        baseline=[round(stretch.scale.offset) for stretch in signals],
        comments=comments,
        base_date=start.date(),
        base_time=start.time(),
        write_dir=str(folder),
    )
    beats = _annotate(connection, folder, name, signals)
    return Written(folder / name, len(signals), len(first.samples), beats)


def _rate(rate: Fraction) -> float | int:
    return rate.numerator if rate.denominator == 1 else float(rate)


def _format(signals: Sequence[Stretch], fmt: Format) -> str:
    low = min((int(s.samples.min(initial=0)) for s in signals), default=0)
    high = max((int(s.samples.max(initial=0)) for s in signals), default=0)
    for name in ("16", "32") if fmt == "auto" else (fmt,):
        if _INVALID[name] < low and high < -_INVALID[name]:
            return name
    raise StorageError(
        f"samples of {signals[0].device} {signals[0].recording} reach from {low} to {high}, beyond WFDB format "
        f"{'32' if fmt == 'auto' else fmt}; choose another"
    )


def _annotate(connection: Connection, folder: Path, name: str, signals: Sequence[Stretch]) -> int:
    found: dict[str, list[tuple[int, str, int]]] = {}
    for channel, stretch in enumerate(signals):
        rows = connection.execute(
            _BEATS,
            (
                stretch.device, stretch.recording, stretch.channel, stretch.first, stretch.stop, stretch.start,
                stretch.time_of(stretch.stop),
            ),
        ).fetchall()  # fmt: skip
        for sample, kind, algorithm in rows:
            found.setdefault(algorithm, []).append((sample - stretch.first, kind, channel))
    for number, (_, beats) in enumerate(sorted(found.items())):
        beats.sort()
        wfdb.wrann(
            name,
            "atr" if number == 0 else f"at{number}",
            sample=np.array([beat[0] for beat in beats]),
            symbol=[beat[1] for beat in beats],
            chan=np.array([beat[2] for beat in beats]),
            write_dir=str(folder),
        )
    return sum(map(len, found.values()))
