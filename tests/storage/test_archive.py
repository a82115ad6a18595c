"""Results in their tables: idempotent by identity, the higher revision stays, whatever the order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.handover.events import acknowledged, event, us
from tests.storage.conftest import Query
from vitalgate.audit import chain
from vitalgate.config.settings import DatabaseSettings
from vitalgate.handover.destinations import Destination
from vitalgate.handover.memory import Memory
from vitalgate.handover.post import Limits, Post
from vitalgate.storage.archive import Archive
from vitalgate.storage.audit_table import read_trail
from vitalgate.storage.errors import StorageError
from vitalgate.stream.alerting_records import event_value
from vitalgate.stream.handover_records import value

START = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.fixture
def archive(database: DatabaseSettings) -> Iterator[Archive]:
    """An open archive."""
    made = Archive(database)
    made.open()
    yield made
    made.close()


def _at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _block(number: int, revision: int, samples: list[int], shift_s: float = 0.0) -> dict[str, Any]:
    return {
        "patient": "p-1", "device_id": "patch-1", "channel": "ecg.II", "recording": "r1", "algorithm": "qrs",
        "algorithm_version": "1", "block": number, "first_sample": number * 2500, "stop_sample": (number + 1) * 2500,
        "rate": "250/1", "start": _at(number * 10 + shift_s), "revision": revision, "final": True,
        "inputs": {"present": 2500}, "quality": "good",
        "beats": [{"sample": s, "time": _at(s / 250 + shift_s), "kind": "N", "rr_ms": 800.0} for s in samples],
    }  # fmt: skip


def _feature(name: str, revision: int, value: float | None, **more: Any) -> dict[str, Any]:
    return {
        "patient": "p-1", "device_id": "patch-1", "channel": "ecg.II", "recording": "r1", "name": name,
        "window": {"first_sample": 0, "stop_sample": 2500}, "start": _at(0), "end": _at(10), "value": value,
        "unit": "/min", "algorithm": "hrv", "algorithm_version": "1", "revision": revision, "withdrawn": False, **more,
    }  # fmt: skip


def _alert(state: str, n: int, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{n}", "alert_id": "a1", "patient": "p-1", "team": "care", "rule": "spo2.low",
        "rule_version": "1",
        "title": "SpO2 low", "priority": "high", "state": state, "onset": _at(0), "detected_at": _at(n),
        "cleared_at": None,
        "value": 84.0, "unit": "%", "limit": 90, "metric": "spo2", "evidence": ["m1"], "received_at": _at(1),
        "hindsight": False, "text": "SpO2 84 %", **more,
    }  # fmt: skip


def _beats(query: Query) -> list[int]:
    return [sample for (sample,) in query("SELECT sample FROM v.beats ORDER BY sample")]


def test_a_moved_peak_leaves_no_ghost(archive: Archive, query: Query) -> None:
    assert archive.beats([_block(0, 1, [100, 300]), _block(1, 1, [2600])]) == 2
    assert archive.beats([_block(0, 2, [104], shift_s=0.01)]) == 1
    assert _beats(query) == [104, 2600]
    assert query("SELECT block, revision, beats FROM v.beat_blocks ORDER BY 1") == [(0, 2, 1), (1, 1, 1)]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2)])
def test_the_highest_revision_stays_in_any_order(archive: Archive, query: Query, order: tuple[int, ...]) -> None:
    for revision in order:
        archive.beats([_block(0, revision, [revision * 100])])
        archive.features([_feature("heart_rate", revision, 60.0 + revision)])
    assert _beats(query) == [300]
    assert query("SELECT value, revision FROM v.features") == [(63.0, 3)]
    assert archive.beats([_block(0, 3, [999])]) == 0
    assert _beats(query) == [300]


def test_revisions_of_one_batch(archive: Archive, query: Query) -> None:
    archive.beats([_block(0, 2, [200]), _block(0, 1, [100]), _block(0, 3, [])])
    assert _beats(query) == []
    assert query("SELECT revision FROM v.beat_blocks") == [(3,)]


def test_two_patients_share_a_block_in_which_the_device_changed_hands(archive: Archive, query: Query) -> None:
    """Offsets of different partitions are no common order: neither result may take the other's place."""
    former, present = _block(7, 90, [17_500, 17_700]), {**_block(7, 3, [18_600, 18_800]), "patient": "p-2"}
    for batch in ([former], [present], [former, present], [{**present, "revision": 4}]):
        archive.beats(batch)
    archive.features([_feature("heart_rate", 90, 70.0), {**_feature("heart_rate", 3, 95.0), "patient": "p-2"}])
    assert query("SELECT patient_id, sample FROM v.beats ORDER BY 2") == [
        ("p-1", 17_500), ("p-1", 17_700), ("p-2", 18_600), ("p-2", 18_800)
    ]  # fmt: skip
    assert query("SELECT patient_id, revision FROM v.beat_blocks ORDER BY 1") == [("p-1", 90), ("p-2", 4)]
    assert query("SELECT patient_id, value FROM v.features ORDER BY 1") == [("p-1", 70.0), ("p-2", 95.0)]
    emptied = {**_block(7, 91, []), "inputs": {"present": 0}}
    assert archive.beats([emptied]) == 1
    assert query("SELECT patient_id FROM v.beat_blocks") == [("p-2",)]
    assert _beats(query) == [18_600, 18_800]


def test_a_withdrawn_feature_is_gone_from_the_view(archive: Archive, query: Query) -> None:
    archive.features([_feature("event.pause", 1, 2.4), _feature("heart_rate", 1, 60.0, spread=3)])
    archive.features([_feature("event.pause", 2, None, withdrawn=True)])
    assert query("SELECT name, detail FROM v.features") == [("heart_rate", {"spread": 3})]
    assert query("SELECT count(*) FROM features") == [(2,)]


def test_the_steps_of_an_alert_are_told_apart_and_the_alert_is_as_its_own_last_one(
    archive: Archive, query: Query
) -> None:
    steps = [
        _alert("raised", 1, number=1, happened="raised", notify=True, kind="physiological", recipients=["anna"]),
        _alert("raised", 2, number=2, happened="suppressed", suppressed_by="asystole"),
        _alert("raised", 3, number=3, happened="released", notify=True),
        _alert("escalated", 4, number=4, happened="escalated", escalation_level=1, reason="nobody answered"),
        _alert("escalated", 5, number=5, happened="escalated", escalation_level=2),
        _alert("acknowledged", 6, number=6, happened="acknowledged", who="clinician:anna", comment="on my way",
               acknowledged_by="clinician:anna", acknowledged_at=_at(6), escalation_level=2),
        _alert("closed", 7, number=7, happened="closed", closed=True, acknowledged_by="clinician:anna", comments=0),
    ]  # fmt: skip
    archive.alerts(steps[3:])
    archive.alerts(steps)
    found = query("SELECT happened, state, who, comment FROM v.alert_events ORDER BY number")
    assert [row[0] for row in found] == [
        "raised", "suppressed", "released", "escalated", "escalated", "acknowledged", "closed",
    ]  # fmt: skip
    assert found[5] == ("acknowledged", "acknowledged", "clinician:anna", "on my way") and found[0][2:] == (None, None)
    assert query("SELECT count(*) FROM v.alert_events WHERE happened = 'raised'") == [(1,)]
    assert query("SELECT state, number, closed, acknowledged_by, detected_at FROM v.alerts") == [
        ("closed", 7, True, "clinician:anna", START + timedelta(seconds=1))
    ], "though its first steps were stored last"


def test_what_the_workers_write_is_what_the_archive_takes(archive: Archive, query: Query) -> None:
    """Records as they come from the models, with every default, and not made up by hand."""
    raised = orjson.loads(event_value(event("a", recipients=["anna"])))
    answered = orjson.loads(event_value(acknowledged("a", who="clinician:anna", comment="here")))
    assert archive.alerts([raised, answered]) == 2
    post = Post(Memory("p1"), Limits())
    destination = Destination.model_validate({"webhook": "https://b.example/", "secret": {"env": "S"}})
    post.take(raised, {"board": destination}, us())
    assert archive.deliveries([orjson.loads(value(record)) for record in post.drain()]) == 1
    assert query("SELECT state, acknowledged_by FROM v.alerts") == [("acknowledged", "anna")]
    assert query(
        "SELECT d.destination, a.happened FROM v.alert_deliveries d JOIN v.alert_events a USING (event_id)"
    ) == [("board", "raised")]


def test_a_delivery_is_as_its_last_step_says(archive: Archive, query: Query) -> None:
    def step(number: int, state: str, at: float, **more: Any) -> dict[str, Any]:
        return {
            "delivery_id": "d1", "number": number, "patient": "p-1", "team": "care", "destination": "board",
            "kind": "webhook", "clinician": "", "priority": "high", "state": state, "at": _at(at),
            "created_at": _at(0), "due": None, "attempts": number - 1, "count": 100, "alert_ids": ["a1", "a2"],
            "event_id": "e1", "error": "", **more,
        }  # fmt: skip

    steps = [step(1, "waiting", 0, due=_at(1)), step(2, "retrying", 2, error="HTTP 503"), step(3, "late", 120),
             step(4, "delivered", 130)]  # fmt: skip
    assert archive.deliveries([*steps, *steps]) == 4
    assert archive.deliveries([step(1, "waiting", 0, delivery_id="d2")]) == 1
    assert query("SELECT delivery_id, state, late, attempts, alarms FROM v.alert_deliveries ORDER BY 1") == [
        ("d1", "delivered", True, 3, 100), ("d2", "waiting", False, 0, 100),
    ]  # fmt: skip
    [(delivered, created)] = query("SELECT delivered_at, created_at FROM v.alert_deliveries WHERE delivery_id = 'd1'")
    assert (delivered - created).total_seconds() == 130
    assert query("SELECT count(*) FROM v.alert_delivery_steps WHERE error = 'HTTP 503'") == [(1,)]


def test_an_alert_is_as_its_last_event_says(archive: Archive, query: Query) -> None:
    events = [_alert("raised", 1), _alert("cleared", 2, cleared_at=_at(60))]
    assert archive.alerts(events) == 2
    assert archive.alerts(events) == 0
    archive.alerts([_alert("raised", 3, alert_id="a2", onset=_at(5), priority="low")])
    rows = query("SELECT alert_id, state, cleared_at IS NOT NULL, limit_value FROM v.alerts ORDER BY 1")
    assert rows == [("a1", "cleared", True, "90"), ("a2", "raised", False, "90")]
    assert query("SELECT detected_at FROM v.alerts WHERE alert_id = 'a1'") == [(START + timedelta(seconds=1),)]
    assert query("SELECT count(*) FROM v.alert_events") == [(3,)]


def test_a_record_that_lacks_a_field_is_told(archive: Archive) -> None:
    broken = _block(0, 1, [1])
    del broken["stop_sample"]
    with pytest.raises(StorageError, match=r"patient.beats lacks .*stop_sample"):
        archive.beats([broken])
    with pytest.raises(StorageError, match="lacks 'device_id'"):
        archive.features([{}])


def _trail(count: int) -> list[bytes]:
    tip, made = chain.Tip(), []
    for n in range(count):
        event = {"event_id": f"e{n}", "who": "user:ann", "action": "device.added", "when": _at(n), "detail": {"n": n}}
        link = chain.append(tip, n, orjson.dumps(event))
        assert link is not None
        tip, record = link
        made.append(orjson.dumps(record))
    return made


def _verdict(database: DatabaseSettings) -> chain.Verdict:
    return chain.verify(orjson.loads(raw) for raw in read_trail(database))


def test_the_trail_comes_back_byte_for_byte(archive: Archive, database: DatabaseSettings) -> None:
    trail = _trail(5)
    assert archive.audit(trail[:3]) == 3
    assert archive.audit(trail) == 2
    assert list(read_trail(database)) == trail
    assert _verdict(database).broken is None


@pytest.mark.parametrize(
    "change",
    ["record = replace(convert_from(record, 'utf8'), 'ann', 'bob')::bytea", "who = 'user:bob'", "time = now()"],
)
def test_a_changed_row_breaks_the_chain(
    archive: Archive, database: DatabaseSettings, query: Query, change: str
) -> None:
    """As somebody could who owns the server and turns the guard off."""
    archive.audit(_trail(5))
    query(f"SET session_replication_role = replica; UPDATE audit_events SET {change} WHERE n = 3; RESET ALL")
    broken = _verdict(database).broken
    assert broken is not None and broken.n == 3


def test_odd_events_are_kept(archive: Archive, database: DatabaseSettings, query: Query) -> None:
    tip = chain.Tip()
    trail = []
    for offset, data in enumerate(
        [b"\xff not json", b'{"who": {"a": 1}, "when": "yesterday", "action": "x\\u0000y"}', b"[]"]
    ):
        link = chain.append(tip, offset, data)
        assert link is not None
        tip, record = link
        trail.append(orjson.dumps(record))
    assert archive.audit(trail) == 3
    assert _verdict(database).broken is None
