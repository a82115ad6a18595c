"""A laboratory result, from preliminary to final to corrected."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition, Values
from vitalgate.records.types.ecg_report import FileReference

_LOINC = re.compile(r"[0-9]{1,7}-[0-9]")


class ReferenceRange(BaseModel):
    """What is usual."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    low: float | None = Field(None, description="Lower end, in the result's unit.")
    high: float | None = Field(None, description="Upper end.")
    critical_low: float | None = Field(None, description="Below this a life may be in danger.")
    critical_high: float | None = Field(None, description="Above this a life may be in danger.")
    text: str | None = Field(None, max_length=200, description="As the laboratory wrote it.")


class LabResult(Envelope):
    """One result."""

    ordered_by: str | None = field("Clinician who asked for it.", max_length=64)
    test_code: str = field("LOINC code of the test.", required=True, max_length=10)
    test_name: str = field("Its name.", required=True, min_length=1, max_length=200)
    result_value: float | str = field("Number in `units`, or words.", required=True)
    units: str | None = field("UCUM; none for words.", max_length=40)
    reference_range: ReferenceRange | None = field("What is usual.")
    abnormal_flag: Literal["LL", "L", "N", "H", "HH", "A"] | None = field(
        "HL7 table 0078: told from the reference range, for words as given (N or A)."
    )
    collected_at: AwareDatetime | None = field("When the sample was taken.")
    attachments: list[FileReference] = field("Files that go with it.", [])
    published_at: AwareDatetime | None = field("When the patient could see it first.", source="server")
    published_by: str | None = field("User who released it to the patient.", source="server")
    status: str = field("preliminary, final or corrected.", "preliminary", source="server")


def loinc_digit(code: str) -> int:
    """The check digit of a LOINC code (modulus 10, Luhn; LOINC Users' Guide, section 10.4)."""
    total = 0
    for place, digit in enumerate(reversed(code.split("-")[0])):
        number = int(digit) * (2 if place % 2 == 0 else 1)
        total += number - 9 if number > 9 else number
    return -total % 10


def abnormal_flag(value: float | str | None, usual: ReferenceRange | None) -> str | None:
    """The flag that a number and its reference range give; None when they give none."""
    if not isinstance(value, (int, float)) or usual is None:
        return None
    if usual.critical_low is not None and value < usual.critical_low:
        return "LL"
    if usual.critical_high is not None and value > usual.critical_high:
        return "HH"
    if usual.low is not None and value < usual.low:
        return "L"
    if usual.high is not None and value > usual.high:
        return "H"
    return "N" if usual.low is not None or usual.high is not None else None


def _sound(after: Values, _before: Values) -> None:
    code = str(after["test_code"])
    if not _LOINC.fullmatch(code) or int(code[-1]) != loinc_digit(code):
        raise Invalid(
            f"testCode {code!r} is no LOINC code: its check digit or form is wrong", [("testCode", "is no LOINC code")]
        )
    if isinstance(after["result_value"], (int, float)) and not after.get("units"):
        raise Invalid("a number needs units (UCUM; 1 for a pure number)", [("units", "is missing")])


_CONTENT = (
    "ordered_by", "test_code", "test_name", "result_value", "units", "reference_range", "abnormal_flag", "collected_at",
    "attachments",
)  # fmt: skip

LAB_RESULT = RecordType(
    name="lab_result",
    title="LabResult",
    path="lab-results",
    meaning="A laboratory result: preliminary, final, corrected; released to the patient by a clinician.",
    model=LabResult,
    relation="lab_results",
    table="lab_results",
    states=("preliminary", "final", "corrected"),
    sorts=("created_at", "collected_at", "changed_at"),
    filters=("patient", "status", "test_code", "abnormal_flag", "ordered_by", "collected_at", "published_at"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Enter a preliminary result.", to="preliminary", fields=("patient", *_CONTENT),
                       required=("patient", "test_code", "test_name", "result_value"), check=_sound),
            Transition("change", "Correct it before it is final.", ("preliminary",), fields=_CONTENT, check=_sound),
            Transition("finalise", "It stands.", ("preliminary",), "final", _CONTENT, check=_sound),
            Transition("correct", "Correct what was final; the earlier version stays.", ("final", "corrected"),
                       "corrected", _CONTENT, check=_sound),
            Transition("publish", "Release it to the patient.", ("final", "corrected"),
                       stamps={"published_at": "now", "published_by": "user"}),
            Transition("withdraw", "It was wrong as a whole.", ("preliminary", "final", "corrected"),
                       fields=("withdrawn_reason",), required=("withdrawn_reason",), stamps={"withdrawn_at": "now"}),
        )
    },
)  # fmt: skip
