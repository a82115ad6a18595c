"""Health endpoints and logs."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from vitalgate.config.settings import HealthSettings, LogSettings
from vitalgate.telemetry.health import Health, serve_health
from vitalgate.telemetry.logs import start_logging


@pytest.fixture
def served() -> Iterator[tuple[Health, str]]:
    health = Health()
    server = serve_health(health, HealthSettings(port=0))
    yield health, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_ready_and_alive_are_told_apart(served: tuple[Health, str]) -> None:
    health, url = served
    health.ready["database"] = lambda: "no connection to the database"
    assert _get(f"{url}/healthz") == (200, '{"status": "ok", "failing": {}}')
    status, body = _get(f"{url}/readyz")
    assert status == 503
    assert json.loads(body)["failing"] == {"database": "no connection to the database"}
    health.alive["loop"] = lambda: "stuck"
    assert _get(f"{url}/healthz")[0] == 503


def test_metrics_are_served(served: tuple[Health, str]) -> None:
    status, body = _get(f"{served[1]}/metrics")
    assert status == 200
    assert "vitalgate_received_total" in body
    assert _get(f"{served[1]}/other")[0] == 404


def test_logs_are_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("intake", LogSettings())
    logging.getLogger("vitalgate.test").info("batch taken", extra={"trace": "ab", "records": 3})
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("vitalgate.test").exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["process"] == "intake"
    assert (first["event"], first["trace"], first["records"]) == ("batch taken", "ab", 3)
    assert "boom" in second["exception"]
