"""Patients, devices, assignments, and the outbox that carries every change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices import public
from vitalgate.storage.errors import StorageError
from vitalgate.storage.registry import CHANNEL, NewDevice, Registry
from vitalgate.storage.registry_records import moved_stretches

DAY = datetime(2026, 11, 1, tzinfo=UTC)
HASH = '{"hash": "salted"}'


@pytest.fixture
def registry(database: DatabaseSettings) -> Iterator[Registry]:
    """A registry with two patients and a device."""
    with Registry(database) as made:
        made.add_patient("p-1", "Europe/Berlin", "care")
        made.add_patient("p-2", "Asia/Kathmandu", "care")
        made.add_device(NewDevice("ox-1", "pulse-oximeter", HASH, serial="S1"))
        yield made


def _day(n: float) -> datetime:
    return DAY + timedelta(days=n)


def test_every_change_goes_through_the_outbox(registry: Registry) -> None:
    registry.assign("ox-1", "p-1", _day(0))
    rows = registry.outbox()
    assert [row.topic for row in rows] == [
        "registry.patients", "registry.patients", "registry.devices", "registry.assignments",
    ]  # fmt: skip
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    for row in rows:
        model = public.MODELS[row.topic].model_validate_json(row.value)
        assert model.change == row.id  # type: ignore[attr-defined]
    assert orjson.loads(rows[0].value)["zones"] == [{"from": None, "zone": "Europe/Berlin"}]
    registry.mark_applied([row.id for row in rows])
    assert registry.outbox() == []
    assert registry.wait_applied(rows[-1].id, 0)


def test_the_registrar_is_woken(registry: Registry, database: DatabaseSettings) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        registry.revoke("ox-1")
        notes = list(connection.notifies(timeout=5, stop_after=1))
    assert [note.payload for note in notes] == [database.db_schema]


def test_a_change_that_is_not_applied_is_not_waited_for_long(registry: Registry) -> None:
    assert not registry.wait_applied(registry.revoke("ox-1").outbox, 0.1)


def test_devices_are_added_all_or_none(registry: Registry) -> None:
    with pytest.raises(StorageError, match="'ox-1' exists already"):
        registry.add_devices([NewDevice("new", "scale", HASH), NewDevice("ox-1", "scale", HASH)])
    with pytest.raises(StorageError, match="p-9"):
        registry.add_devices([NewDevice("new", "scale", HASH, patient="p-9")])
    assert registry.devices("new") == []


def test_a_revoked_device_may_be_added_anew(registry: Registry) -> None:
    registry.revoke("ox-1")
    (device,) = registry.devices("ox-1")
    assert (device.state, device.revoked_at is not None) == ("revoked", True)
    with pytest.raises(StorageError, match="no active device"):
        registry.revoke("ox-1")
    registry.add_device(NewDevice("ox-1", "pulse-oximeter", HASH))
    (device,) = registry.devices("ox-1")
    assert (device.state, device.revoked_at) == ("active", None)


def test_a_device_has_one_patient_at_a_time(registry: Registry, query: Query) -> None:
    registry.assign("ox-1", "p-1", _day(0))
    with pytest.raises(psycopg.errors.ExclusionViolation):
        query(
            "INSERT INTO assignments (device_id, patient_id, during) VALUES ('ox-1', 'p-2', tstzrange(%s, NULL))",
            _day(3),
        )


def test_handing_a_device_on_ends_the_first_assignment(registry: Registry) -> None:
    registry.assign("ox-1", "p-1", _day(0))
    change = registry.assign("ox-1", "p-2", _day(5))
    assert change.moved == [("ox-1", _day(5), None, "p-1", "p-2")]
    found = [(a.patient_id, a.start, a.stop) for a in registry.assignments("ox-1")]
    assert found == [("p-1", _day(0), _day(5)), ("p-2", _day(5), None)]


def test_a_correction_in_the_middle_moves_only_that_stretch(registry: Registry) -> None:
    registry.assign("ox-1", "p-1", _day(0), _day(10))
    change = registry.assign("ox-1", "p-2", _day(3), _day(4))
    assert change.moved == [("ox-1", _day(3), _day(4), "p-1", "p-2")]
    assert [(a.patient_id, a.start, a.stop) for a in registry.assignments("ox-1")] == [
        ("p-1", _day(0), _day(3)), ("p-2", _day(3), _day(4)), ("p-1", _day(4), _day(10)),
    ]  # fmt: skip
    gone = registry.assign("ox-1", None, _day(9))
    assert gone.moved == [("ox-1", _day(9), _day(10), "p-1", None)]


def test_unassigned_readings_are_claimed(registry: Registry) -> None:
    assert registry.assign("ox-1", "p-1", _day(0)).moved == [("ox-1", _day(0), None, None, "p-1")]
    assert registry.assign("ox-1", "p-1", _day(-1)).moved == [("ox-1", _day(-1), _day(0), None, "p-1")]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda r: r.assign("none", "p-1", DAY), "no device 'none'"),
        (lambda r: r.assign("ox-1", "p-9", DAY), "p-9"),
        (lambda r: r.assign("ox-1", "p-1", DAY, DAY), "not after its start"),
        (lambda r: r.add_patient("p-1", "UTC", "care"), "exists already"),
        (lambda r: r.add_patient("p-3", "Mars/Olympus", "care"), "not an IANA time zone"),
        (lambda r: r.move_patient("p-9", "UTC", DAY), "p-9"),
        (lambda r: r.set_patient("p-9", team="x"), "no patient 'p-9'"),
        (lambda r: r.set_credentials("none", "x"), "no active device"),
    ],
)
def test_what_cannot_be_is_refused(registry: Registry, call: object, says: str) -> None:
    with pytest.raises(StorageError, match=says):
        call(registry)  # type: ignore[operator]


def test_a_patients_zone_has_a_history(registry: Registry) -> None:
    registry.move_patient("p-1", "America/New_York", _day(2))
    registry.set_patient("p-1", team="night")
    (patient,) = registry.patients("p-1")
    assert patient.zones == [(None, "Europe/Berlin"), (_day(2), "America/New_York")]
    assert patient.team == "night"


def test_a_registrar_that_starts_anew_gets_everything(registry: Registry) -> None:
    registry.mark_applied([row.id for row in registry.outbox()])
    assert {(row.topic, row.key) for row in registry.everything()} == {
        ("registry.devices", "ox-1"), ("registry.assignments", "ox-1"), ("registry.patients", "p-1"),
        ("registry.patients", "p-2"),
    }  # fmt: skip


@given(
    before=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 20), st.integers(1, 5)), max_size=4),
    start=st.integers(0, 20), length=st.one_of(st.none(), st.integers(1, 20)), patient=st.sampled_from([None, "a",
    "c"]),
)  # fmt: skip
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_moved_stretches_are_exactly_where_the_patient_changes(
    before: list[tuple[str, int, int]], start: int, length: int | None, patient: str | None
) -> None:
    taken: list[tuple[str, datetime, datetime | None]] = []
    at = 0
    for who, gap, days in before:
        at += gap
        taken.append((who, _day(at), _day(at + days)))
        at += days
    stop = None if length is None else _day(start + length)
    touched = [t for t in taken if t[2] > _day(start) and (stop is None or t[1] < stop)]  # type: ignore[operator]
    moved = moved_stretches("d", patient, _day(start), stop, touched)
    for hour in range(24 * 60):
        moment = DAY + timedelta(hours=hour + 0.5)
        was = next((who for who, low, high in taken if low <= moment < high), None)  # type: ignore[operator]
        inside = _day(start) <= moment and (stop is None or moment < stop)
        told = [m for m in moved if m[1] <= moment and (m[2] is None or moment < m[2])]
        assert len(told) == (1 if inside and was != patient else 0)
        if told:
            assert (told[0][3], told[0][4]) == (was, patient)
