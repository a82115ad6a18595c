"""Readings, aggregates, beats, features and waveforms of a patient, over stretches of time."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from vitalgate.api import encodings
from vitalgate.api import readings_answers as answers
from vitalgate.api.entry import Caller
from vitalgate.api.openapi import problem_responses
from vitalgate.api.replies import reply
from vitalgate.api.times import stretch
from vitalgate.storage import records_readings

SERIES_LONGEST = timedelta(days=366)

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
        return answers.latest(caller, patient)

    @made.get("/readings", operation_id="readings")
    def readings(
        patient: str, caller: Caller, metric: Name, start: From, stop: To,
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000, after: Cursor = "",
    ) -> Response:  # fmt: skip
        """Current values of one metric, in order of time."""
        begin, end = stretch(start, stop, SERIES_LONGEST, "Ask for aggregates, or part by part.")
        patient = answers.clean(patient)
        return reply(caller.read(lambda tx: records_readings.series(tx, patient, metric, begin, end, limit, after)))

    @made.get("/readings/aggregates", operation_id="aggregates", responses=_FORMS_AND_ERRORS)
    def aggregates(
        patient: str, caller: Caller, request: Request, metric: Name, start: From, stop: To,
        width: Literal["minute", "hour", "day"] = "minute", form: Form = "",
    ) -> Response:  # fmt: skip
        """Count, mean, least and greatest value of each minute, hour, or day of the patient's own time zone."""
        accept = request.headers.get("accept")
        return answers.aggregates(caller, patient, metric, start, stop, width, accept, form)

    @made.get("/beats", operation_id="beats")
    def beats(patient: str, caller: Caller, start: From, stop: To) -> Response:
        """Heart beats: time, kind, RR interval."""
        begin, end = stretch(start, stop, timedelta(days=1), "Ask part by part.")
        patient = answers.clean(patient)
        return reply({"data": caller.read(lambda tx: records_readings.beats(tx, patient, begin, end))})

    @made.get("/features", operation_id="features")
    def features(patient: str, caller: Caller, start: From, stop: To, name: MaybeName = "") -> Response:
        """Heart rate, heart-rate variability and rhythm events."""
        begin, end = stretch(start, stop, timedelta(days=8), "Ask part by part.")
        patient = answers.clean(patient)
        return reply({"data": caller.read(lambda tx: records_readings.features(tx, patient, begin, end, name))})

    @made.get("/waveforms", operation_id="waveforms", responses=_FORMS_AND_ERRORS)
    def waveforms(
        patient: str, caller: Caller, request: Request, channel: Name, start: From, stop: To, device: MaybeName = "",
        pixels: Annotated[int, Query(ge=0, le=20_000, description="0: every sample.")] = 0, form: Form = "",
    ) -> Response:  # fmt: skip
        """Samples of one channel; with `pixels`, the least and greatest value of each, so that no peak is lost."""
        accept = request.headers.get("accept")
        return answers.waveforms(caller, patient, channel, start, stop, device, accept, form, pixels)

    return made
