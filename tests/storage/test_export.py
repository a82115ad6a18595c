"""Files for data engineers: Parquet read back with pyarrow, WFDB read back with wfdb."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.archive import Archive
from vitalgate.storage.errors import StorageError
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry
from vitalgate.storage.times import moment

pq = pytest.importorskip("pyarrow.parquet")
wfdb = pytest.importorskip("wfdb")

from vitalgate.storage import export_parquet, export_wfdb  # noqa: E402  need what may be absent

START, STOP = moment(T0), moment(T0 + 3600 * SECOND)


@pytest.fixture
def filled(database: DatabaseSettings, recorder: Recorder) -> DatabaseSettings:
    """Two patients; the patch of the first has two channels with a gap in one, and beats."""
    with Registry(database) as registry:
        for patient, device in (("p-1", "patch-1"), ("p-2", "patch-2")):
            registry.add_patient(patient, "UTC", "care")
            registry.add_device(NewDevice(device, "ecg-patch", "x"))
            registry.assign(device, patient, START - timedelta(days=1))
    log = Log()
    for device in ("patch-1", "patch-2"):
        recorder.apply(
            log.batch(
                log.message(device, 1, readings=[reading(97, context={"a": "b"}, flags=["motion"])]),
                log.message(device, 2, readings=[reading(95)]),
                log.message(
                    device, 3, waveforms=[waveform(range(-100, 400)), waveform(range(500), item=1, channel="ecg.V1")]
                ),
                log.message(device, 4, waveforms=[waveform(range(250), first=750)]),
            )
        )
    at = [moment(T0 + n * 800_000) for n in range(4)]
    archive = Archive(database)
    archive.beats(
        [
            {
                "patient": "p-1", "device_id": "patch-1", "channel": "ecg.II", "recording": "r1", "algorithm": "qrs",
                "algorithm_version": "1", "block": 0, "first_sample": 0, "stop_sample": 2500, "rate": "250/1",
                "start": START.isoformat(), "revision": 1, "final": True, "inputs": {"present": 750}, "quality": None,
                "beats": [
                    {"sample": n * 200, "time": at[n].isoformat(), "kind": "NSVQ"[n], "rr_ms": 800.0} for n in range(4)
                ],
            }
        ]
    )  # fmt: skip
    archive.close()
    return database


def test_parquet_of_one_patient(filled: DatabaseSettings, tmp_path: Path) -> None:
    written = {file.path.stem: file.rows for file in export_parquet.export(filled, tmp_path, patient="p-1")}
    assert written == {
        "readings": 2, "waveforms": 3, "beats": 4, "features": 0, "alerts": 0, "devices": 1, "assignments": 1,
        "patients": 1,
    }  # fmt: skip
    readings = pq.read_table(tmp_path / "readings.parquet")
    assert set(readings["patient_id"].to_pylist()) == {"p-1"}
    assert readings["value"].to_pylist() == [97.0, 95.0]
    assert readings["time"].to_pylist() == [START, START]
    assert readings["context"].to_pylist() == ['{"a":"b"}', None]
    assert readings["flags"].to_pylist() == [["motion"], None]
    waveforms = pq.read_table(tmp_path / "waveforms.parquet").to_pylist()
    assert waveforms[0]["samples"] == list(range(-100, 400))


def test_parquet_of_a_stretch_of_time(filled: DatabaseSettings, tmp_path: Path) -> None:
    later = export_parquet.export(
        filled, tmp_path, start=START + timedelta(seconds=1), stop=STOP, views=["beats", "readings", "assignments"]
    )
    assert [file.rows for file in later] == [2, 0, 2]


@pytest.mark.parametrize("view", sorted(export_parquet.VIEWS))
def test_every_view_can_be_exported(filled: DatabaseSettings, tmp_path: Path, view: str) -> None:
    (file,) = export_parquet.export(filled, tmp_path, start=START - timedelta(days=9), stop=STOP, views=[view])
    assert pq.read_table(file.path).num_rows == file.rows


def test_what_cannot_be_exported_is_told(filled: DatabaseSettings, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no view 'nonsense' to export; there are readings"):
        list(export_parquet.export(filled, tmp_path, views=["nonsense"]))
    with pytest.raises(StorageError, match="knows no patient"):
        list(export_parquet.export(filled, tmp_path, views=["dead_letters"], patient="p-1"))


def test_a_wfdb_record_holds_samples_gaps_and_beats(filled: DatabaseSettings, tmp_path: Path) -> None:
    (record,) = export_wfdb.export(filled, tmp_path, "p-1", START, STOP)
    assert (record.signals, record.samples, record.beats) == (2, 1000, 4)
    raw = wfdb.rdrecord(str(record.path), physical=False)
    assert raw.sig_name == ["ecg.II", "ecg.V1"]
    assert (raw.fs, raw.fmt, raw.adc_gain, raw.units) == (250, ["16", "16"], [200.0, 200.0], ["mV", "mV"])
    assert datetime.combine(raw.base_date, raw.base_time, UTC) == START
    first = raw.d_signal[:, 0]
    assert np.array_equal(first[:500], np.arange(-100, 400))
    assert (first[500:750] == -32768).all()
    assert np.array_equal(first[750:], np.arange(250))
    physical = wfdb.rdrecord(str(record.path)).p_signal
    assert np.isnan(physical[500:750, 0]).all() and physical[0, 0] == -0.5
    beats = wfdb.rdann(str(record.path), "atr")
    assert beats.sample.tolist() == [0, 200, 400, 600]
    assert beats.symbol == ["N", "S", "V", "Q"]


def test_a_stretch_of_a_recording_begins_at_its_own_sample(filled: DatabaseSettings, tmp_path: Path) -> None:
    (record,) = export_wfdb.export(filled, tmp_path, "p-1", START + timedelta(seconds=1), STOP)
    raw = wfdb.rdrecord(str(record.path), physical=False)
    assert raw.d_signal[0, 0] == 150
    assert wfdb.rdann(str(record.path), "atr").sample.tolist() == [150, 350]


@pytest.mark.parametrize(("fmt", "fits"), [("212", True), ("16", True), ("32", True)])
def test_formats(filled: DatabaseSettings, tmp_path: Path, fmt: export_wfdb.Format, fits: bool) -> None:
    (record,) = export_wfdb.export(filled, tmp_path, "p-1", START, STOP, fmt=fmt)
    raw = wfdb.rdrecord(str(record.path), physical=False)
    assert raw.fmt == [fmt] * 2
    assert np.array_equal(raw.d_signal[:500, 0], np.arange(-100, 400))


def test_samples_beyond_a_format_are_told(filled: DatabaseSettings, recorder: Recorder, tmp_path: Path) -> None:
    log = Log(partition=1)
    wide = waveform([0, 70_000, 5], first=2000)
    recorder.apply(log.batch(log.message("patch-1", 9, waveforms=[wide])))
    with pytest.raises(StorageError, match="reach from -100 to 70000, beyond WFDB format 16"):
        list(export_wfdb.export(filled, tmp_path, "p-1", START, STOP, fmt="16"))
    (record,) = export_wfdb.export(filled, tmp_path, "p-1", START, STOP)
    assert wfdb.rdrecord(str(record.path), physical=False).fmt == ["32", "32"]


def test_long_recordings_go_on_in_further_records(
    filled: DatabaseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_wfdb, "MAX_SAMPLES", 400)
    records = list(export_wfdb.export(filled, tmp_path, "p-1", START, STOP))
    assert [(r.path.name, r.samples) for r in records] == [
        ("patch-1_r1", 400),
        ("patch-1_r1_2", 400),
        ("patch-1_r1_3", 200),
    ]
    assert sum(r.beats for r in records) == 4


def test_only_what_was_the_patients(filled: DatabaseSettings, tmp_path: Path) -> None:
    with Registry(filled) as registry:
        registry.assign("patch-1", "p-2", START + timedelta(seconds=2))
    records = list(export_wfdb.export(filled, tmp_path, "p-1", START, STOP))
    assert [r.samples for r in records] == [500]
    assert len(list(export_wfdb.export(filled, tmp_path / "two", "p-2", START, STOP))) == 2
