"""What reads of readings and waveforms answer, in the form that was asked for; blocking."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import numpy as np
from starlette.responses import Response

from vitalgate.api import encodings
from vitalgate.api.entry import Entry
from vitalgate.api.pictures import draw
from vitalgate.api.problems import bad
from vitalgate.api.replies import reply
from vitalgate.api.times import stretch
from vitalgate.storage import records_readings

RAW_LONGEST: Final = timedelta(minutes=15)
DRAWN_LONGEST: Final = timedelta(days=2)
LONGEST: Final = {"minute": timedelta(days=8), "hour": timedelta(days=366), "day": timedelta(days=3700)}


def latest(caller: Entry, patient: str) -> Response:
    """The latest value of each metric."""
    patient = clean(patient)
    return reply({"data": caller.read(lambda tx: records_readings.latest(tx, patient))})


def aggregates(
    caller: Entry, patient: str, metric: str, start: str, stop: str, width: str, accept: str | None, form: str
) -> Response:
    """Count, mean, least and greatest of each minute, hour or day.

    Raises
    ------
    Problem
        400 for a time that is none or too long, 406 for a form that there is not.
    """
    begin, end = stretch(start, stop, LONGEST[width], "Ask for wider ones, or part by part.")
    kind = encodings.choose(accept, form)
    patient = clean(patient)
    found = caller.read(lambda tx: records_readings.aggregates(tx, patient, metric, width, begin, end))
    if kind == encodings.ARROW:
        names = list(found[0]) if found else ["time", "n", "mean", "low", "high"]
        columns = {name: [row[name] for row in found] for name in names}
        return _table(columns, {"patient": patient, "metric": metric, "width": width})
    return Response(encodings.document({"data": found}, kind), media_type=kind)


def waveforms(
    caller: Entry, patient: str, channel: str, start: str, stop: str, device: str, accept: str | None, form: str,
    pixels: int = 0,
) -> Response:  # fmt: skip
    """Samples of a channel; with `pixels`, the least and greatest value of each.

    Raises
    ------
    Problem
        400 for a time that is none or too long, 406 for a form that there is not.
    """
    kind = encodings.choose(accept, form)
    patient = clean(patient)
    about = {"patient": patient, "channel": channel}
    if pixels:
        begin, end = stretch(start, stop, DRAWN_LONGEST, "Ask part by part.")
        with caller.acting() as tx:
            lines = draw(
                begin, end, pixels,
                lambda low, high: records_readings.waveform(tx, patient, channel, low, high, device or None),
            )  # fmt: skip
        return _drawn(lines, begin, (end - begin) / pixels, kind, about)
    begin, end = stretch(start, stop, RAW_LONGEST, "Give pixels to have a longer time downsampled.")
    found = caller.read(lambda tx: records_readings.waveform(tx, patient, channel, begin, end, device or None))
    return _whole(found, kind, about)


def clean(patient: str) -> str:
    """A patient's id that can be asked for. Raises Problem 400."""
    if "\x00" in patient:
        raise bad("The patient's id holds a zero byte.")
    return patient


def _table(columns: dict[str, Any], metadata: dict[str, str]) -> Response:
    return Response(encodings.arrow(columns, metadata), media_type=encodings.ARROW)


def _drawn(lines: list[Any], begin: Any, width: timedelta, kind: str, about: dict[str, str]) -> Response:
    if kind == encodings.ARROW:
        start = np.datetime64(begin.replace(tzinfo=None), "us")
        columns: dict[str, Any] = {"device": [], "time": [], "low": [], "high": [], "count": []}
        for line in lines:
            n = len(line.low)
            columns["device"].append(np.full(n, line.device, dtype=object))
            columns["time"].append(start + (np.arange(n) * (width / timedelta(microseconds=1))).astype("m8[us]"))
            for name in ("low", "high", "count"):
                columns[name].append(getattr(line, name))
        joined: dict[str, Any] = {name: np.concatenate(parts) if parts else [] for name, parts in columns.items()}
        return _table(joined, {**about, "unit": lines[0].unit if lines else ""})
    body = {
        **about, "start": begin, "step": width / timedelta(seconds=1),
        "lines": [
            {"device": line.device, "unit": line.unit, "low": line.low, "high": line.high, "count": line.count}
            for line in lines
        ],
    }  # fmt: skip
    return Response(encodings.document(body, kind), media_type=kind)


def _whole(found: list[Any], kind: str, about: dict[str, str]) -> Response:
    if kind == encodings.ARROW:
        columns: dict[str, Any] = {"device": [], "recording": [], "time": [], "value": []}
        for one in found:
            n = len(one.samples)
            start = np.datetime64(one.start.replace(tzinfo=None), "us")
            columns["device"].append(np.full(n, one.device, dtype=object))
            columns["recording"].append(np.full(n, one.recording, dtype=object))
            columns["time"].append(start + np.round(np.arange(n) * (1e6 / float(one.rate))).astype("m8[us]"))
            columns["value"].append(one.physical())
        joined: dict[str, Any] = {name: np.concatenate(parts) if parts else [] for name, parts in columns.items()}
        return _table(joined, {**about, "unit": found[0].scale.unit if found else ""})
    body = {
        **about,
        "stretches": [
            {
                "device": one.device, "recording": one.recording, "start": one.start, "rate": float(one.rate),
                "unit": one.scale.unit, "samples": one.physical(),
            }
            for one in found
        ],
    }  # fmt: skip
    return Response(encodings.document(body, kind), media_type=kind)
