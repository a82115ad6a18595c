"""What an ECG was found to say, by a person or by the signal engine; every version is kept."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition, Values


class FileReference(BaseModel):
    """A stored file, as the files interface names it."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    file: str = Field(description="Id of the stored file.", max_length=100)
    name: str = Field("", description="As it was called.", max_length=255)
    media_type: str = Field("application/octet-stream", max_length=127)
    size: int = Field(0, ge=0, description="Bytes.")
    sha256: str = Field("", max_length=64)


class Measurements(BaseModel):
    """What is measured of an ECG; a value that could not be measured is absent."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True)

    rate: float | None = Field(None, ge=0, le=500, description="Ventricular rate, /min (LOINC 8867-4).")
    pr: float | None = Field(None, ge=0, le=1000, description="PR interval, ms (LOINC 8625-6).")
    qrs: float | None = Field(None, ge=0, le=1000, description="QRS duration, ms (LOINC 8633-0).")
    qt: float | None = Field(None, ge=0, le=2000, description="QT interval, ms (LOINC 8634-8).")
    qtc: float | None = Field(None, ge=0, le=2000, description="Corrected QT interval, ms (LOINC 8636-3).")
    burden: float | None = Field(None, ge=0, le=100, description="Share of the time in atrial fibrillation, %.")


class ECGReport(Envelope):
    """One report."""

    ordered_by: str | None = field("Clinician who asked for it.", max_length=64)
    report_type: Literal["12-lead", "strip", "holter", "event", "stress"] = field("Kind of ECG.", required=True)
    report_data: list[FileReference] = field("The report's files: PDF, PNG, WFDB, DICOM-ECG.", [])
    result_data: Measurements | None = field("Measurements.")
    conclusion: str | None = field("In words.", max_length=8000)
    source: Literal["hand", "engine"] = field("Who made it: a person, or the signal engine.", "hand")
    recorded_at: AwareDatetime | None = field("When the ECG began.")
    reported_at: AwareDatetime | None = field("When it was first issued.", source="server")
    published_at: AwareDatetime | None = field("When the patient could see it first.", source="server")
    published_by: str | None = field("User who released it to the patient.", source="server")
    status: str = field("draft, preliminary, final, amended or cancelled.", "draft", source="server")


def _says_something(after: Values, _before: Values) -> None:
    if not (after.get("report_data") or after.get("result_data") or after.get("conclusion")):
        raise Invalid(
            "a report that is issued says something: give reportData, resultData or conclusion",
            [("resultData", "nothing is reported")],
        )


_CONTENT = ("ordered_by", "report_data", "result_data", "conclusion", "recorded_at")

ECG_REPORT = RecordType(
    name="ecg_report",
    title="ECGReport",
    path="ecg-reports",
    meaning="What an ECG was found to say, with its files and measurements; every version is kept.",
    model=ECGReport,
    relation="ecg_reports",
    table="ecg_reports",
    states=("draft", "preliminary", "final", "amended", "cancelled"),
    sorts=("created_at", "reported_at", "recorded_at", "changed_at"),
    filters=("patient", "status", "report_type", "ordered_by", "source", "reported_at", "recorded_at", "published_at"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Begin a report.", to="draft", fields=("patient", "report_type", "source", *_CONTENT),
                       required=("patient", "report_type")),
            Transition("change", "Write on, before it is final.", ("draft", "preliminary"), fields=_CONTENT),
            Transition("issue", "Report it as preliminary.", ("draft",), "preliminary", _CONTENT,
                       stamps={"reported_at": "now"}, check=_says_something),
            Transition("finalise", "It stands.", ("draft", "preliminary"), "final", _CONTENT,
                       stamps={"reported_at": "first"}, check=_says_something),
            Transition("amend", "Correct what was final; the earlier version stays.", ("final", "amended"), "amended",
                       _CONTENT, check=_says_something),
            Transition("publish", "Release it to the patient.", ("preliminary", "final", "amended"),
                       stamps={"published_at": "now", "published_by": "user"}),
            Transition("cancel", "Give it up before it is final.", ("draft", "preliminary"), "cancelled",
                       ("withdrawn_reason",)),
            Transition("withdraw", "It was wrong as a whole; it stays readable as withdrawn.", ("final", "amended"),
                       "cancelled", ("withdrawn_reason",), ("withdrawn_reason",), {"withdrawn_at": "now"}),
        )
    },
)  # fmt: skip
