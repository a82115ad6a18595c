"""A patient's ECG strip out of the database: signal, beats and rhythm events of a moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from vitalgate.config.settings import DatabaseSettings
from vitalgate.report.clean import Filter, clean, described
from vitalgate.report.paper import Lead, Mark, Span, Strip, draw
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.errors import transient
from vitalgate.storage.waveforms import Stretch, read

#: Longest row of waveforms in the database, with room to spare.
_ROW = timedelta(hours=6)
#: Signal beyond the strip, for the filter's sake.
_MARGIN = timedelta(seconds=3)
_MV = {"mV": 1.0, "uV": 1e-3, "V": 1e3}

#: A row may reach beyond the time in which the patient had the device, so that the patient of a row does not decide.
_OF_PATIENT = """
    FROM assignments a JOIN waveforms w
      ON w.device_id = a.device_id AND w.channel LIKE 'ecg.%%' AND w.current
     AND (a.to_time IS NULL OR w.time < a.to_time) AND w.end_time > a.from_time
    WHERE a.patient_id = %(patient)s
      AND (%(channel)s::text IS NULL OR w.channel = ANY(string_to_array(%(channel)s, ',')))
"""
_LEADS = f"""
    SELECT w.device_id, w.channel, sum(w.count) {_OF_PATIENT}
      AND w.time > %(begin)s - %(row)s AND w.time < %(end)s AND w.end_time > %(begin)s
      AND a.from_time < %(end)s AND (a.to_time IS NULL OR a.to_time > %(begin)s)
    GROUP BY w.device_id, w.channel ORDER BY sum(w.count) DESC, w.device_id, w.channel
"""
_LATEST = f"SELECT max(least(w.end_time, a.to_time)) {_OF_PATIENT}"
_HELD = """
    SELECT from_time, to_time FROM assignments WHERE device_id = %s AND patient_id = %s
    AND from_time < %s AND (to_time IS NULL OR to_time > %s)
"""
_BEATS = """
    SELECT time, kind, algorithm FROM beats
    WHERE patient_id = %s AND device_id = %s AND channel = %s AND time >= %s AND time < %s ORDER BY time
"""
_EVENTS = """
    SELECT name, time, end_time, value, unit FROM features
    WHERE patient_id = %s AND device_id = %s AND channel = %s AND name LIKE 'event.%%' AND time < %s AND end_time > %s
      AND time > %s
    ORDER BY name, time
"""
_ZONE = "SELECT time_zone FROM patients WHERE patient_id = %s"


class NothingToDraw(ValueError):
    """There is no ECG of that patient at that time; the text says where there is some."""


def draw_patient_strip(
    database: DatabaseSettings, patient: str, start: float, seconds: float, path: Path
) -> Path | None:
    """Draw the strip that begins at ``start`` (seconds since 1970); None when there is no ECG then."""
    try:
        strip = patient_strip(database, patient, datetime.fromtimestamp(start, UTC), seconds)
    except NothingToDraw:
        return None
    return draw(strip, path)


def patient_strip(
    database: DatabaseSettings,
    patient: str,
    at: datetime | None,
    seconds: float,
    *,
    channels: Sequence[str] = (),
    choice: Filter = "monitor",
    every_lead: bool = False,
) -> Strip:
    """Collect all that is drawn.

    Parameters
    ----------
    at
        Beginning; None for the latest ECG that there is.
    channels
        Channels to draw, such as ecg.II; by default the one with most signal.
    every_lead
        By default all channels of the device that has the most signal.
    choice
        Filter of the trace.

    Raises
    ------
    NothingToDraw
        When there is no ECG.
    vitalgate.storage.errors.StorageError
        When the database cannot be read.
    """
    with connect(database, "plot", views=True) as connection, transient():
        wanted: dict[str, Any] = {"patient": patient, "channel": ",".join(channels) or None, "row": _ROW}
        latest = _one(connection, _LATEST, wanted)
        if latest is None:
            raise NothingToDraw(
                f"there is no ECG of patient {patient}{' in ' + ', '.join(channels) if channels else ''}"
            )
        begin = latest - timedelta(seconds=seconds) if at is None else at.astimezone(UTC)
        end = begin + timedelta(seconds=seconds)
        found = connection.execute(_LEADS, wanted | {"begin": begin, "end": end}).fetchall()
        if not found:
            raise NothingToDraw(
                f"there is no ECG of patient {patient} at {begin.isoformat()}; the latest is at {latest}"
            )
        device = found[0][0]
        names = [row[1] for row in found if row[0] == device][: None if every_lead else max(1, len(channels))]
        beats = connection.execute(_BEATS, (patient, device, names[0], begin, end)).fetchall()
        window = (end, begin, begin - timedelta(hours=1))
        events = connection.execute(_EVENTS, (patient, device, names[0], *window)).fetchall()
        held = connection.execute(_HELD, (device, patient, end + _MARGIN, begin - _MARGIN)).fetchall()
        zone = _one(connection, _ZONE, (patient,)) or "UTC"
    beats = [beat for beat in beats if _held_at(held, beat[0])]
    ordered = [name for name in channels if name in names] or names
    leads = [_lead(database, device, name, begin, end, choice, held) for name in ordered]
    return Strip(
        title=f"Patient {patient}",
        start=begin.astimezone(ZoneInfo(zone)),
        seconds=seconds,
        leads=leads,
        filter=described(choice),
        beats=[Mark((time - begin).total_seconds(), kind) for time, kind, _ in beats],
        spans=_spans(events, begin),
        summary=_rate([time for time, *_ in beats]),
        notes=(f"{device}  ·  " + (f"beats: {beats[0][2]}, RR in ms" if beats else "no beats found"),),
    )


def _held_at(held: Sequence[tuple[datetime, datetime | None]], time: datetime) -> bool:
    """Whether the patient had the device then."""
    return any(low <= time and (high is None or time < high) for low, high in held)


def _one(connection: Connection, query: str, values: Any) -> Any:
    row = connection.execute(query, values).fetchone()
    return None if row is None else row[0]


def _lead(
    database: DatabaseSettings,
    device: str,
    channel: str,
    begin: datetime,
    end: datetime,
    choice: Filter,
    held: Sequence[tuple[datetime, datetime | None]],
) -> Lead:
    """One lead on the strip's own time grid: samples at begin + k / rate, from whatever recordings there are.

    Only what was measured while the patient had the device.
    """
    stretches = read(database, device, channel, begin - _MARGIN, end + _MARGIN)
    if not stretches:
        raise NothingToDraw(f"there are no samples of {device} {channel} at {begin.isoformat()}")
    rate = float(max(stretches, key=lambda s: len(s.samples)).rate)
    count, margin = round((end - begin).total_seconds() * rate), round(_MARGIN.total_seconds() * rate)
    grid: NDArray[np.float64] = np.full(count + 2 * margin, np.nan)
    for stretch in stretches:
        if float(stretch.rate) == rate:
            _lay(grid, stretch, begin - _MARGIN, rate)
    theirs = np.zeros(len(grid), np.bool_)
    for low, high in held:
        first = max(0, math.ceil((low - begin + _MARGIN).total_seconds() * rate - 1e-6))
        stop = len(grid) if high is None else math.ceil((high - begin + _MARGIN).total_seconds() * rate - 1e-6)
        theirs[first : max(first, stop)] = True
    grid[~theirs] = np.nan
    return Lead(channel.removeprefix("ecg."), clean(grid, rate, choice)[margin : margin + count], rate)


def _lay(grid: NDArray[np.float64], stretch: Stretch, origin: datetime, rate: float) -> None:
    values = stretch.physical() * _MV.get(stretch.scale.unit, 1.0)
    place = round((stretch.start - origin).total_seconds() * rate)
    first, stop = max(0, place), min(len(grid), place + len(values))
    if first < stop:
        piece = values[first - place : stop - place]
        target = grid[first:stop]
        target[np.isfinite(piece)] = piece[np.isfinite(piece)]


def _spans(events: Sequence[tuple[Any, ...]], begin: datetime) -> list[Span]:
    """Rhythm events; pieces of one that touch (they are stored by block) are put together."""
    joined: list[tuple[str, datetime, datetime, float, str]] = []
    for name, time, end, value, unit in events:
        kind = name.removeprefix("event.")
        last = joined[-1] if joined else None
        if last is not None and last[0] == kind != "pause" and time - last[2] <= timedelta(milliseconds=20):
            best = min(last[3], value) if kind == "bradycardia" else max(last[3], value)
            joined[-1] = (kind, last[1], end, best, unit)
        else:
            joined.append((kind, time, end, value, unit))
    spans = []
    for kind, time, end, value, unit in joined:
        number = (end - time).total_seconds() if kind == "asystole" else value
        text = f"{kind} {number:.1f} s" if unit == "s" else f"{kind} {number:.0f} {unit}"
        spans.append(Span((time - begin).total_seconds(), (end - begin).total_seconds(), kind, text))
    return spans


def _rate(times: Sequence[datetime]) -> str:
    if len(times) < 3:
        return ""
    return f"{60 * (len(times) - 1) / (times[-1] - times[0]).total_seconds():.0f} /min"
