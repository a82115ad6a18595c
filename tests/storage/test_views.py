"""What the views promise: columns that others rely on, and answers without reading through whole partitions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.storage.builders import SECOND, Log, reading
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import maintenance
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry

PROMISED: dict[str, tuple[str, ...]] = {
    "readings": ("device_id", "patient_id", "metric", "time", "version", "value", "unit", "received_at"),
    "beats": ("patient_id", "device_id", "channel", "time", "kind"),
    "readings_current": ("patient_id",),
    "waveforms": ("patient_id",),
    "features": ("patient_id",),
    "alerts": ("patient_id",),
    "dead_letters": (),
    "audit_events": (),
    "devices": (),
    "assignments": (),
}


def test_the_promised_columns_are_there(database: DatabaseSettings, query: Query) -> None:
    rows = query(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s", database.db_schema
    )
    for view, columns in PROMISED.items():
        assert set(columns) <= {column for name, column in rows if name == view}, view
        assert any(name == view for name, _ in rows)


@pytest.fixture
def busy(database: DatabaseSettings, recorder: Recorder, query: Query) -> Registry:
    """An hour of one patient among sixty other devices."""
    now = datetime.now(UTC)
    start = int((now - timedelta(minutes=59)).timestamp()) * SECOND
    registry = Registry(database)
    registry.add_patient("p-1", "Europe/Berlin", "care")
    registry.add_device(NewDevice("ox-1", "pulse-oximeter", "x"))
    registry.assign("ox-1", "p-1", now - timedelta(days=1))
    log = Log()
    times = [start + n * 10 * SECOND for n in range(300)]
    recorder.apply(
        log.batch(
            *(log.message(seq=n, readings=[reading(97, time_us=t)], received_us=t) for n, t in enumerate(times, 1))
        )
    )
    query("INSERT INTO devices (device_id, kind) SELECT 'n-' || g, 'pulse-oximeter' FROM generate_series(1, 60) g")
    query(
        "INSERT INTO readings (time, device_id, metric, site, idx, version, current, value_num, unit, epoch_no, ord,"
        " item, received_at, skew_s, message_id, raw_partition, raw_offset)"
        " SELECT now() - n * interval '1 second', 'n-' || g, 'spo2', '', 0, 1, true, 97, '%%', 1, n, 0, now(), 0,"
        " gen_random_uuid(), 9, n FROM generate_series(1, 600) n, generate_series(1, 60) g WHERE %s",
        True,
    )
    maintenance.run(database)
    query("ANALYZE readings; ANALYZE assignments")
    registry.close()
    return registry


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM v.readings_current WHERE patient_id = 'p-1' AND metric = 'spo2' AND time > {since}",
        "SELECT * FROM v.readings WHERE patient_id = 'p-1' AND time > {since}",
        "SELECT * FROM v.readings_by_minute WHERE patient_id = 'p-1' AND metric = 'spo2' AND time > {since}",
    ],
)
def test_reads_by_patient_use_indexes(query: Query, text: str) -> None:
    asked = text.format(since="now() - interval '1 h'")
    plan = "\n".join(line for (line,) in query(f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {asked}"))
    scans = [line for line in plan.splitlines() if re.search(r"Seq Scan on (_hyper|readings)", line)]
    read = [line for line in scans if "actual rows=0" not in line and "never executed" not in line]
    assert read == [], plan
    assert re.search(r"Index (Only )?Scan", plan), plan


@pytest.mark.usefixtures("busy")
def test_a_closed_assignment_does_not_read_what_came_after(query: Query, database: DatabaseSettings) -> None:
    with Registry(database) as registry:
        registry.assign("ox-1", None, datetime.now(UTC) - timedelta(minutes=50))
    asked = "SELECT * FROM v.readings WHERE patient_id = 'p-1'"
    plan = "\n".join(line for (line,) in query(f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {asked}"))
    assert query(asked.replace("*", "count(*) BETWEEN 50 AND 60")) == [(True,)]
    removed = [int(n) for n in re.findall(r"Rows Removed by (?:Index Recheck|Filter): (\d+)", plan)]
    assert max(removed, default=0) < 100, plan
