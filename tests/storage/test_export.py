"""Exported files say what the database says, read by tools that are not ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import wfdb

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.archive import Archive
from vitalgate.storage.errors import StorageError
from vitalgate.storage.export import VIEWS, all_views, to_parquet, to_wfdb
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry

START = datetime.fromtimestamp(T0 / 1e6, UTC)


@pytest.fixture
def filled(database: DatabaseSettings, recorder: Recorder) -> np.ndarray[Any, Any]:
    """Two patients, readings, and 20 s of ECG with a gap of 2 s and three beats; gives the samples."""
    samples = np.round(300 * np.sin(np.arange(5000) / 9)).astype(np.int64)
    with Registry(database) as registry:
        for patient, device in (("p-1", "ox-1"), ("p-2", "ox-2")):
            registry.add_patient(patient, "UTC", "care")
            registry.add_device(NewDevice(device, "pulse-oximeter", "hash"))
            registry.assign(device, patient, START - timedelta(days=1))
    log = Log()
    messages = [
        log.message(device, seq, readings=[reading(90.0 + seq, time_us=T0 + seq * SECOND, context={"a": "b"})])
        for device in ("ox-1", "ox-2")
        for seq in range(1, 6)
    ]
    pieces = ((0, 2500), (3000, 5000))
    messages += [
        log.message("ox-1", 10 + n, waveforms=[waveform(samples[a:b].tolist(), first=a)])
        for n, (a, b) in enumerate(pieces)
    ]
    recorder.apply(log.batch(*messages))
    archive = Archive(database)
    archive.open()
    at = [(START + timedelta(seconds=s / 250)).isoformat() for s in (100, 400, 700)]
    archive.beats(
        [
            {
                "patient": "p-1", "device_id": "ox-1", "channel": "ecg.II", "recording": "r1", "algorithm": "qrs",
                "algorithm_version": "1", "block": 0, "first_sample": 0, "stop_sample": 2500, "rate": "250/1",
                "start": START.isoformat(), "revision": 1, "final": True, "inputs": {"present": 2500},
                "quality": "good",
                "beats": [
                    {"sample": sample, "time": time, "kind": "N", "rr_ms": None}
                    for sample, time in zip((100, 400, 700), at, strict=True)
                ],
            }
        ]
    )  # fmt: skip
    archive.close()
    return samples


@pytest.mark.usefixtures("filled")
def test_parquet_holds_the_rows_of_the_view(database: DatabaseSettings, tmp_path: Path) -> None:
    done = to_parquet(database, "readings", tmp_path / "readings.parquet", patient="p-1")
    table = pq.read_table(done.path).to_pylist()
    assert done.rows == len(table) == 5
    assert {row["patient_id"] for row in table} == {"p-1"}
    assert [row["value"] for row in table] == [91.0, 92.0, 93.0, 94.0, 95.0]
    assert table[0]["time"] == START + timedelta(seconds=1)
    assert table[0]["context"] == '{"a": "b"}'


@pytest.mark.usefixtures("filled")
def test_a_time_range_is_half_open(database: DatabaseSettings, tmp_path: Path) -> None:
    start, stop = START + timedelta(seconds=2), START + timedelta(seconds=4)
    done = to_parquet(database, "readings", tmp_path / "r.parquet", start=start, stop=stop)
    assert sorted(pq.read_table(done.path)["value"].to_pylist()) == [92.0, 92.0, 93.0, 93.0]


@pytest.mark.usefixtures("filled")
def test_every_view_can_be_exported(database: DatabaseSettings, tmp_path: Path) -> None:
    written = {item.path.stem: item.rows for item in all_views(database, tmp_path, start=None, stop=None, patient=None)}
    assert set(written) == set(VIEWS)
    assert (written["readings"], written["patients"], written["beats"], written["devices"]) == (10, 2, 3, 2)
    assert all(pq.read_table(tmp_path / f"{view}.parquet").num_rows == rows for view, rows in written.items())


def test_what_a_view_cannot_be_chosen_by_is_said(database: DatabaseSettings, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="has no patient_id"):
        to_parquet(database, "audit_events", tmp_path / "a.parquet", patient="p-1")
    with pytest.raises(StorageError, match="has no time"):
        to_parquet(database, "patients", tmp_path / "a.parquet", start=START)


def test_wfdb_gives_back_the_very_samples(
    database: DatabaseSettings, filled: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    [written] = to_wfdb(database, "p-1", tmp_path, start=START, stop=START + timedelta(seconds=30))
    name = str(written.path.with_suffix(""))
    record = wfdb.rdrecord(name, physical=False)
    digital = record.d_signal[:, 0].astype(np.int64)
    assert written.rows == len(digital) == 5000
    assert digital[:2500].tolist() == filled[:2500].tolist()
    assert digital[3000:].tolist() == filled[3000:].tolist()
    assert np.isnan(wfdb.rdrecord(name).p_signal[2500:3000, 0]).all()
    assert (record.fs, record.units, record.adc_gain, record.sig_name) == (250, ["mV"], [200.0], ["ecg.II"])
    assert wfdb.rdann(name, "atr").sample.tolist() == [100, 400, 700]
    assert to_wfdb(database, "p-2", tmp_path, start=START, stop=START + timedelta(seconds=30)) == []
