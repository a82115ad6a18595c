"""Readings and waveforms over HTTP: as stored, in three forms, downsampled without losing a peak; one's own alone."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import numpy as np
import pyarrow as pa
import pytest

from tests.api.conftest import Api
from tests.storage.builders import SECOND, T0, Log, reading, waveform
from vitalgate.config.settings import KafkaSettings
from vitalgate.storage.aggregates import refresh_plain
from vitalgate.storage.connect import connect
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry

START = datetime.fromtimestamp(T0 / SECOND, UTC)
RATE, SECONDS = 250, 1200


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.fixture(scope="module")
def samples(api: Api) -> np.ndarray[Any, Any]:
    """Twenty minutes of a line with one spike, and readings each second, of anna's devices."""
    database = api.services.settings.database
    line = (100 * np.sin(np.arange(RATE * SECONDS) / 30)).astype(int)
    line[123_456] = 5_000
    with Registry(database, who="user:test") as registry:
        registry.add_devices([NewDevice("api-ecg", "ecg-patch", ""), NewDevice("api-ox", "pulse-oximeter", "")])
        for device in ("api-ecg", "api-ox"):
            registry.assign(device, "p-anna", START - timedelta(days=1))
    log = Log(3)
    blocks = [
        log.message("api-ecg", n + 1, waveforms=[waveform(line[n * 2500 : (n + 1) * 2500].tolist(), first=n * 2500)])
        for n in range(len(line) // 2500)
    ]
    values = [
        log.message("api-ox", n + 1, readings=[reading(90.0 + n % 7, time_us=T0 + n * SECOND)]) for n in range(300)
    ]
    with Recorder(database, KafkaSettings()) as recorder:
        for part in (blocks, values):
            recorder.apply(log.batch(*part))
    with connect(database, "test", autocommit=True) as connection:
        refresh_plain(connection)
    return line / 200.0


def _waveforms(api: Api, who: str, **params: Any) -> Any:
    with api.client(who) as client:
        return client.get("/v1/patients/p-anna/waveforms", params={"channel": "ecg.II", **params})


def test_every_sample_in_three_forms(api: Api, samples: np.ndarray[Any, Any]) -> None:
    window = {"from": _text(START + timedelta(seconds=5)), "to": _text(START + timedelta(seconds=15))}
    expected = samples[5 * RATE : 15 * RATE]
    (stretch,) = _waveforms(api, "anna", **window).json()["stretches"]
    assert stretch["rate"] == RATE and stretch["unit"] == "mV"
    assert np.allclose(stretch["samples"], expected)
    cbor = cbor2.loads(_waveforms(api, "carla", format="cbor", **window).content)
    assert np.allclose(cbor["stretches"][0]["samples"], expected)
    arrow = _waveforms(api, "carla", format="arrow", **window)
    assert arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(io.BytesIO(arrow.content)).read_all()
    assert np.allclose(table["value"].to_numpy(), expected)
    assert table["time"][0].as_py().replace(tzinfo=UTC) == START + timedelta(seconds=5)


def test_a_downsampled_line_keeps_its_peak(api: Api, samples: np.ndarray[Any, Any]) -> None:
    window = {"from": _text(START), "to": _text(START + timedelta(seconds=SECONDS))}
    drawn = _waveforms(api, "anna", pixels=400, **window).json()
    (line,) = drawn["lines"]
    assert drawn["step"] == 3.0 and len(line["low"]) == 400
    parts = samples.reshape(400, -1)
    assert np.allclose(line["low"], parts.min(axis=1)) and np.allclose(line["high"], parts.max(axis=1))
    assert max(line["high"]) == 25.0 and sum(line["count"]) == len(samples)
    gap = _waveforms(api, "anna", pixels=10, **{"from": _text(START - timedelta(hours=1)), "to": _text(START)}).json()
    assert gap["lines"] == [] or set(gap["lines"][0]["low"]) == {None}
    long = _waveforms(api, "anna", **window)
    assert long.status_code == 400 and "pixels" in long.json()["detail"]


def test_latest_series_and_aggregates(api: Api, samples: np.ndarray[Any, Any]) -> None:
    base = "/v1/patients/p-anna/readings"
    window = {"metric": "spo2", "from": _text(START), "to": _text(START + timedelta(minutes=5))}
    with api.client("anna") as anna, api.client("dora") as dora:
        latest = {one["metric"]: one for one in anna.get(f"{base}/latest").json()["data"]}
        assert latest["spo2"]["dataPayload"]["value"] == 90.0 + 299 % 7
        first = anna.get(base, params={**window, "limit": 200}).json()
        rest = anna.get(base, params={**window, "limit": 200, "after": first["next"]}).json()
        assert (len(first["data"]), len(rest["data"]), rest["next"]) == (200, 100, None)
        window["from"] = _text(START.replace(second=0))
        minutes = anna.get(f"{base}/aggregates", params=window).json()["data"]
        assert sum(one["n"] for one in minutes) == 300 and {one["low"] for one in minutes} == {90.0}
        table = pa.ipc.open_stream(
            io.BytesIO(anna.get(f"{base}/aggregates", params={**window, "format": "arrow"}).content)
        ).read_all()
        assert table["n"].to_pylist() == [one["n"] for one in minutes]
        assert anna.get(f"{base}/aggregates", params={**window, "format": "xml"}).status_code == 422
        assert anna.get(base, params={**window, "to": "soon"}).status_code == 400
        answer = dora.get(f"{base}/latest")
        assert answer.status_code in (403, 404) or answer.json()["data"] == []
        data = anna.get("/v1/device-data", params={"patient": "p-anna", "metric": "spo2", "limit": 3}).json()["data"]
        one = anna.get(f"/v1/device-data/{data[0]['id']}")
        assert one.status_code == 200 and one.json()["dataPayload"] == data[0]["dataPayload"]
