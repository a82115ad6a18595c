"""Pure rules: documents in two spellings, verbs and their conditions, passwords, lock-out, flags."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.records.catalogue import RECORDS
from vitalgate.records.documents import served, stepped, taken
from vitalgate.records.errors import Conflict, Invalid
from vitalgate.records.session_rules import check_email, check_password, locked_until
from vitalgate.records.types.lab_result import ReferenceRange, abnormal_flag, loinc_digit

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_both_spellings_are_taken_and_served() -> None:
    kind = RECORDS["patient_profile"]
    base = {"patient": "p", "medicalRecordNumber": "1"}
    first = taken(kind, "create", {**base, "displayName": "A B", "dateOfBirth": "1950-02-03"})
    second = taken(kind, "create", {**base, "fullName": "A B", "dob": "1950-02-03"})
    assert first == second
    assert first["date_of_birth"] == date(1950, 2, 3)
    out = served(kind, first)
    assert out["displayName"] == out["fullName"] == "A B"
    assert served(kind, first, ["dob"]) == {"dateOfBirth": date(1950, 2, 3), "dob": date(1950, 2, 3)}
    assert "fullName" not in served(kind, first, both=False)
    with pytest.raises(Invalid):
        served(kind, first, ["shoeSize"])


@pytest.mark.parametrize(
    ("name", "verb", "given_", "where"),
    [
        ("patient_profile", "create", {"displayName": "A", "fullName": "B"}, "fullName"),
        ("ecg_report", "create", {"patient": "p", "reportType": "strip", "status": "final"}, "status"),
        ("ecg_report", "create", {"patient": "p", "reportType": "palm"}, "reportType"),
        ("message", "create", {"patient": "p", "body": ""}, "body"),
        ("message", "create", {"patient": "p"}, "body"),
        ("lab_result", "correct", {"shoeSize": 43}, "shoeSize"),
        ("appointment", "create", {"patient": "p", "provider": "d", "startAt": "tomorrow", "endAt": NOW}, "startAt"),
        ("appointment", "create", {"patient": "p", "provider": "d", "startAt": "2026-01-01T00:00:00", "endAt": NOW},
         "startAt"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(name: str, verb: str, given_: dict[str, Any], where: str) -> None:
    with pytest.raises(Invalid) as wrong:
        taken(RECORDS[name], verb, given_)
    assert where in [field for field, _ in wrong.value.fields]


@given(st.dictionaries(st.text(max_size=12), st.recursive(st.none() | st.booleans() | st.floats() | st.text(),
       lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=5)))  # fmt: skip
def test_anything_given_is_taken_or_refused(values: dict[str, Any]) -> None:
    for kind in RECORDS.values():
        for verb in kind.transitions:
            with suppress(Invalid):
                assert taken(kind, verb, values).keys() <= {kind.spellings[name] for name in values}


def test_verbs_start_from_their_states_only() -> None:
    for kind in RECORDS.values():
        for step in kind.transitions.values():
            for state in kind.states:
                if step.creates or state in step.frm:
                    continue
                with pytest.raises(Conflict, match=state):
                    stepped(kind, step.verb, {"status": state}, {}, NOW, "u")
            if step.frm:
                with pytest.raises(Conflict, match="withdrawn"):
                    stepped(kind, step.verb, {"status": step.frm[0], "withdrawn_at": NOW}, {}, NOW, "u")


@pytest.mark.parametrize(
    "password", ["short", "x" * 129, "passwordpassword", "aaaaaaaaaaaaaaa", "abcdefghijklmnop", "erika.muster1950"]
)
def test_weak_passwords(password: str) -> None:
    with pytest.raises(Invalid) as wrong:
        check_password(password, "erika.muster1950@example.org", "Erika Muster")
    assert password not in str(wrong.value) or len(password) > 128


def test_good_password_and_addresses() -> None:
    check_password("correct horse battery", "erika@example.org", "Erika Muster")
    assert check_email(" erika@example.org ") == "erika@example.org"
    for wrong in ("erika", "@", "a b@c", ""):
        with pytest.raises(Invalid):
            check_email(wrong)


def test_lock_out_grows_and_ends() -> None:
    assert locked_until(4, NOW) is None
    waits = [locked_until(failures, NOW) for failures in range(5, 40)]
    assert waits[0] == NOW + timedelta(minutes=1)
    assert waits == sorted(waits, key=lambda moment: moment or NOW)
    assert waits[-1] == NOW + timedelta(hours=1)


@pytest.mark.parametrize("code", ["2823-3", "8867-4", "8625-6", "8633-0", "8634-8", "8636-3", "2160-0", "718-7"])
def test_loinc_check_digit(code: str) -> None:
    assert loinc_digit(code) == int(code[-1])


def test_flags() -> None:
    usual = ReferenceRange.model_validate({"low": 3.5, "high": 5.1, "criticalLow": 2.5, "criticalHigh": 6.5})
    flags = [abnormal_flag(value, usual) for value in (2.4, 2.5, 3.4, 3.5, 5.1, 5.2, 6.5, 6.6)]
    assert flags == ["LL", "L", "L", "N", "N", "H", "H", "HH"]
    assert abnormal_flag(4.0, None) is None
    assert abnormal_flag("positive", usual) is None
