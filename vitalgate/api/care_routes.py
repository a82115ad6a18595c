"""Around the records: whose they are, breaking the glass, threads, calendars, measurements over time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from vitalgate.api.entry import Caller
from vitalgate.api.openapi import problem_responses
from vitalgate.api.problems import Problem, not_found
from vitalgate.api.replies import record_reply, reply
from vitalgate.storage import records_care, records_messages, records_read

_ERRORS = problem_responses(403, 404, 409, 422)
_NO_ZERO = r"^[^\x00]*$"
#: Reports looked at for a series of measurements.
_MOST_REPORTS = 2000


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Reason(_Body):
    """Why a record is opened without being on the care team."""

    reason: str = Field(min_length=5, max_length=500, pattern=_NO_ZERO)
    minutes: int = Field(60, ge=1, le=1440)


class Hold(_Body):
    """Whether a thread is kept beyond the retention policy."""

    on: bool


def router() -> APIRouter:
    """Routes that are not of one kind of record."""
    made = APIRouter(prefix="/v1", responses=_ERRORS)

    @made.get("/my/patients", tags=["Care"], operation_id="my_patients")
    def my_patients(caller: Caller) -> Response:
        """Ids of the patients that the caller looks after, or is."""
        with caller.acting() as tx:
            return reply({"data": records_care.my_patients(tx)})

    @made.get("/patients/search", tags=["Care"], operation_id="find_patient")
    def find_patient(
        caller: Caller,
        number: Annotated[str, Query(alias="medicalRecordNumber", min_length=1, max_length=64, pattern=_NO_ZERO)],
    ) -> Response:  # fmt: skip
        """The patient with exactly this medical record number; audited."""
        with caller.acting() as tx:
            found = records_care.find_patient(tx, number)
        if found is None:
            raise not_found("such patient")
        return reply({"patient": found})

    @made.get("/patients/{patient}/people", tags=["Care"], operation_id="people")
    def people(patient: str, caller: Caller) -> Response:
        """Who is on the care team: names to write to and to meet."""
        _clean(patient)
        with caller.acting() as tx:
            found = records_care.people(tx, patient)
        return reply({
            "data": [
                {"user": one.user_id, "clinician": one.clinician, "name": one.name, "role": one.role} for one in found
            ]
        })  # fmt: skip

    @made.get("/patients/{patient}/relation", tags=["Care"], operation_id="relation")
    def relation(patient: str, caller: Caller) -> Response:
        """What the caller is to the patient: own, assigned, formerly, break_glass or stranger."""
        _clean(patient)
        with caller.acting() as tx:
            return reply({"relation": records_care.relation(tx, patient).value})

    @made.post("/patients/{patient}/break-glass", status_code=201, tags=["Care"], operation_id="open_glass")
    def break_glass(patient: str, body: Reason, caller: Caller) -> Response:
        """Open the record of a patient in an emergency; it is alarmed and audited, and ends by itself."""
        _clean(patient)
        with caller.acting() as tx:
            record = records_care.break_glass(tx, patient, body.reason, body.minutes)
        return record_reply(record, 201)

    @made.post("/patients/{patient}/break-glass/end", status_code=204, tags=["Care"], operation_id="close_glass")
    def end_break_glass(patient: str, caller: Caller) -> Response:
        """Close it again."""
        _clean(patient)
        with caller.acting() as tx:
            records_care.end_break_glass(tx, patient)
        return Response(status_code=204)

    @made.get("/patients/{patient}/ecg-measurements", tags=["Readings"], operation_id="ecg_measurements")
    def measurements(patient: str, caller: Caller) -> Response:
        """Measurements of the reports over time: rate, PR, QRS, QT, QTc, burden, each a series; oldest first."""
        _clean(patient)
        with caller.acting() as tx:
            return reply(_series(tx, patient))

    @made.get("/threads", tags=["Message"], operation_id="threads")
    def threads(
        caller: Caller, patient: Annotated[str, Query(max_length=64, pattern=_NO_ZERO)] = ""
    ) -> Response:  # fmt: skip
        """Threads with their last message and the count of unread ones."""
        with caller.acting() as tx:
            found = records_messages.threads(tx, patient or None)
        return reply({
            "data": [
                {"conversationId": one.conversation_id, "threadId": one.conversation_id, "patient": one.patient,
                 "unread": one.unread, "last": one.last.document()}
                for one in found
            ]
        })  # fmt: skip

    @made.get("/threads/unread", tags=["Message"], operation_id="unread")
    def unread(caller: Caller) -> Response:
        """Unread messages by patient."""
        with caller.acting() as tx:
            found = records_messages.unread(tx)
        return reply({"total": sum(found.values()), "byPatient": found})

    @made.post("/threads/{id}/hold", status_code=204, tags=["Message"], operation_id="hold_thread")
    def hold(id: str, body: Hold, caller: Caller) -> Response:
        """Keep a thread beyond the retention policy, or no longer."""
        _clean(id)
        with caller.acting() as tx:
            records_messages.hold(tx, id, body.on)
        return Response(status_code=204)

    @made.get(
        "/appointments/{id}/calendar", tags=["Appointment"], operation_id="appointment_calendar",
        response_class=Response, responses={200: {"content": {"text/calendar": {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    def calendar_file(id: str, caller: Caller) -> Response:
        """The appointment as an iCalendar file; the reason stays out of it."""
        from vitalgate.api.calendar import MEDIA_TYPE, calendar  # slow to load

        _clean(id)
        with caller.acting() as tx:
            record = records_read.get(tx, "appointment", id)
        body = calendar({**record.values, "id": record.id}, record.values.get("changed_at") or datetime.now(UTC))
        return Response(body, headers={
            "content-type": MEDIA_TYPE, "content-disposition": 'attachment; filename="appointment.ics"'
        })  # fmt: skip

    return made


def _clean(text: str) -> None:
    if "\x00" in text:
        raise Problem(422, "invalid", "An id holds a zero byte.")


def _series(tx: Any, patient: str) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    after = ""
    seen = 0
    while True:
        asked = records_read.Query(
            filters={"patient": patient, "status": ["preliminary", "final", "amended"]}, limit=500, after=after
        )
        page = records_read.find(tx, "ecg_report", asked)
        for record in page.records:
            at = record.values.get("recorded_at") or record.values.get("reported_at")
            values = record.values.get("result_data") or {}
            if not isinstance(values, dict):
                values = values.model_dump(by_alias=True, exclude_none=True)
            for name, value in values.items():
                if isinstance(value, int | float) and at is not None:
                    found.setdefault(name, []).append({"time": at, "value": value, "report": record.id})
        seen += len(page.records)
        after = page.next or ""
        if not after or seen >= _MOST_REPORTS:
            break
    return {"series": {name: sorted(points, key=lambda one: one["time"]) for name, points in sorted(found.items())}}
