"""Readings, aggregates, beats, features and waveforms of a patient, over stretches of time."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from vitalgate.api import encodings
from vitalgate.api.entry import Caller
from vitalgate.api.openapi import problem_responses
from vitalgate.api.pictures import draw
from vitalgate.api.problems import bad
from vitalgate.api.replies import reply
from vitalgate.api.times import stretch
from vitalgate.storage import records_readings

RAW_LONGEST = timedelta(minutes=15)
DRAWN_LONGEST = timedelta(days=2)
SERIES_LONGEST = timedelta(days=366)
LONGEST = {"minute": timedelta(days=8), "hour": timedelta(days=366), "day": timedelta(days=3700)}

_TEXT = r"^[^\x00]*$"
Id = Annotated[str, Query(max_length=64, pattern=_TEXT)]
From = Annotated[str, Query(alias="from", description="RFC 3339 time.", json_schema_extra={"format": "date-time"})]
To = Annotated[
    str, Query(alias="to", description="RFC 3339 time, not included.", json_schema_extra={"format": "date-time"})
]
Name = Annotated[str, Query(min_length=1, max_length=64, pattern=_TEXT)]
MaybeName = Annotated[str, Query(max_length=64, pattern=_TEXT)]
Cursor = Annotated[str, Query(max_length=2000, pattern=_TEXT)]
Form = Annotated[
    Literal["", "json", "cbor", "arrow"], Query(alias="format", description="Wins over the Accept header.")
]
_CONTENT = {
    encodings.JSON: {"schema": {"type": "object"}},
    encodings.CBOR: {"schema": {"type": "string", "format": "binary"}},
    encodings.ARROW: {"schema": {"type": "string", "format": "binary"}},
}
_FORMS: dict[int | str, dict[str, Any]] = {200: {"description": "In the form that was asked for.", "content": _CONTENT}}
_ERRORS = problem_responses(403, 404, 406, 422)
_FORMS_AND_ERRORS = {**_FORMS, **_ERRORS}


def router() -> APIRouter:
    """Routes below /v1/patients/{id}."""
    made = APIRouter(prefix="/v1/patients/{patient}", tags=["Readings"], responses=_ERRORS)

    @made.get("/readings/latest", operation_id="latest_readings")
    def latest(patient: str, caller: Caller) -> Response:
        """The latest value of each metric."""
        patient = _clean(patient)
        return reply({"data": caller.read(lambda tx: records_readings.latest(tx, patient))})

    @made.get("/readings", operation_id="readings")
    def readings(
        patient: str, caller: Caller, metric: Name, start: From, stop: To,
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000, after: Cursor = "",
    ) -> Response:  # fmt: skip
        """Current values of one metric, in order of time."""
        begin, end = stretch(start, stop, SERIES_LONGEST, "Ask for aggregates, or part by part.")
        patient = _clean(patient)
        return reply(caller.read(lambda tx: records_readings.series(tx, patient, metric, begin, end, limit, after)))

    @made.get("/readings/aggregates", operation_id="aggregates", responses=_FORMS_AND_ERRORS)
    def aggregates(
        patient: str, caller: Caller, request: Request, metric: Name, start: From, stop: To,
        width: Literal["minute", "hour", "day"] = "minute", form: Form = "",
    ) -> Response:  # fmt: skip
        """Count, mean, least and greatest value of each minute, hour, or day of the patient's own time zone."""
        begin, end = stretch(start, stop, LONGEST[width], "Ask for wider ones, or part by part.")
        kind = encodings.choose(request.headers.get("accept"), form)
        patient = _clean(patient)
        found = caller.read(lambda tx: records_readings.aggregates(tx, patient, metric, width, begin, end))
        if kind == encodings.ARROW:
            names = list(found[0]) if found else ["time", "n", "mean", "low", "high"]
            columns = {name: [row[name] for row in found] for name in names}
            return _table(columns, {"patient": patient, "metric": metric, "width": width})
        return Response(encodings.document({"data": found}, kind), media_type=kind)

    @made.get("/beats", operation_id="beats")
    def beats(patient: str, caller: Caller, start: From, stop: To) -> Response:
        """Heart beats: time, kind, RR interval."""
        begin, end = stretch(start, stop, timedelta(days=1), "Ask part by part.")
        patient = _clean(patient)
        return reply({"data": caller.read(lambda tx: records_readings.beats(tx, patient, begin, end))})

    @made.get("/features", operation_id="features")
    def features(patient: str, caller: Caller, start: From, stop: To, name: MaybeName = "") -> Response:
        """Heart rate, heart-rate variability and rhythm events."""
        begin, end = stretch(start, stop, timedelta(days=8), "Ask part by part.")
        patient = _clean(patient)
        return reply({"data": caller.read(lambda tx: records_readings.features(tx, patient, begin, end, name))})

    @made.get("/waveforms", operation_id="waveforms", responses=_FORMS_AND_ERRORS)
    def waveforms(
        patient: str, caller: Caller, request: Request, channel: Name, start: From, stop: To, device: MaybeName = "",
        pixels: Annotated[int, Query(ge=0, le=20_000, description="0: every sample.")] = 0, form: Form = "",
    ) -> Response:  # fmt: skip
        """Samples of one channel; with `pixels`, the least and greatest value of each, so that no peak is lost."""
        kind = encodings.choose(request.headers.get("accept"), form)
        patient = _clean(patient)
        if pixels:
            begin, end = stretch(start, stop, DRAWN_LONGEST, "Ask part by part.")
            with caller.acting() as tx:
                lines = draw(
                    begin, end, pixels,
                    lambda low, high: records_readings.waveform(tx, patient, channel, low, high, device or None),
                )  # fmt: skip
            return _drawn(lines, begin, (end - begin) / pixels, kind, {"patient": patient, "channel": channel})
        begin, end = stretch(start, stop, RAW_LONGEST, "Give pixels to have a longer time downsampled.")
        found = caller.read(lambda tx: records_readings.waveform(tx, patient, channel, begin, end, device or None))
        return _whole(found, kind, {"patient": patient, "channel": channel})

    return made


def _clean(patient: str) -> str:
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
