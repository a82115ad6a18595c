"""What the registrar looks after for the operators: audit trail, ledger, disks, certificates, as metrics."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psycopg
import pytest
import trustme
from cryptography import x509

from tests.alerts.worker_process import send
from tests.audit.test_tamper_matrix import KEY, change, made
from vitalgate.audit.anchors import anchor_of, dump
from vitalgate.audit.chain import tip_of
from vitalgate.audit.checkpoints import sign
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.local.topics import create_topics
from vitalgate.storage.migrate import migrate
from vitalgate.stream.checks import Checks, certificate_files
from vitalgate.telemetry import metrics


def value(metric: object, *labels: str) -> float:
    child = metric.labels(*labels) if labels else metric  # type: ignore[attr-defined]
    return float(child._value.get())


@pytest.fixture
def settings(kafka_bootstrap: str, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"{request.node.name[:30]}{os.getpid()}.",
        "audit.anchor_file": str(tmp_path / "anchors.jsonl"), "stack.data": str(tmp_path),
    }  # fmt: skip
    made = load(flags=flags, env={}, data=str(tmp_path)).settings
    create_topics(made.kafka, (topics.AUDIT,))
    return made


def test_the_audit_trail_is_verified_as_it_grows(settings: Settings) -> None:
    trail, checks = made(), Checks(settings)
    for part, last in ((trail[:20], 19), (trail[20:50], 46)):
        send(settings.kafka, [(topics.AUDIT, None, json.dumps(record).encode()) for record in part])
        checks.audit()
        assert (value(metrics.AUDIT_VERIFIED), value(metrics.AUDIT_BROKEN)) == (last, 0)
    send(settings.kafka, [(topics.AUDIT, None, json.dumps(record).encode()) for record in change(trail)[:30]])
    checks.audit()
    assert value(metrics.AUDIT_BROKEN) == 23


def test_an_anchor_beyond_the_end_says_that_it_was_cut(settings: Settings) -> None:
    trail, checks = made(), Checks(settings)
    send(settings.kafka, [(topics.AUDIT, None, json.dumps(record).encode()) for record in trail[:20]])
    checks.audit()
    assert value(metrics.AUDIT_BROKEN) == 0
    link = next(record for record in trail if record["n"] == 40)
    Path(settings.audit.anchor_file).write_text(dump([anchor_of(sign(KEY, tip_of(link), None))]))
    checks.audit()
    assert value(metrics.AUDIT_BROKEN) == 20


def test_disks_and_certificates_are_told(settings: Settings, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "broken.pem").write_text("no certificate")
    mqtt = settings.mqtt.model_copy(
        update={"ca_file": str(tmp_path / "ca.pem"), "cert_file": str(tmp_path / "broken.pem")}
    )
    watched = settings.model_copy(update={"mqtt": mqtt})
    assert set(certificate_files(watched)) == {"mqtt.ca_file", "mqtt.cert_file"}
    checks = Checks(watched)
    checks.certificates()
    checks.disks()
    ends = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).not_valid_after_utc
    assert value(metrics.CERTIFICATE_ENDS, "mqtt.ca_file") == ends.timestamp()
    assert value(metrics.CERTIFICATE_ENDS, "mqtt.cert_file") == 0  # unreadable is as good as ended
    assert 0 < value(metrics.DISK_FREE, str(tmp_path)) <= 1


def test_the_ledger_is_reckoned(postgres_dsn: str, tmp_path: Path) -> None:
    flags = {"database.dsn": postgres_dsn, "database.db_schema": f"checks{os.getpid()}", "database.timescale": "off"}
    database = load(flags=flags, env={}, data=str(tmp_path)).settings
    migrate(database.database)
    checks = Checks(database)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        try:
            checks.ledger()
            assert (value(metrics.LEDGER_UNBALANCED), value(metrics.LEDGER_LOST)) == (0, 0)
            connection.execute(
                f"INSERT INTO checks{os.getpid()}_data.ledger_holes (topic, partition, first_offset, last_offset)"
                " VALUES ('device.raw', 0, 5, 7)"
            )
            checks.ledger()
            assert (value(metrics.LEDGER_UNBALANCED), value(metrics.LEDGER_LOST)) == (1, 3)
        finally:
            connection.execute("SET client_min_messages = error")
            for end in ("", "_data", "_records"):
                connection.execute(f"DROP SCHEMA IF EXISTS checks{os.getpid()}{end} CASCADE")
