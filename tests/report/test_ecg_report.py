"""The ECG report: what is measured and said, the page, and the command on files and on patients."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from tests.alerts.worker_process import read_all
from vitalgate.cli import _context
from vitalgate.cli.report import command
from vitalgate.config import topics
from vitalgate.config.loading import Loaded, load
from vitalgate.config.settings import DatabaseSettings
from vitalgate.local.topics import create_topics
from vitalgate.report.ecg import Ecg, NothingToReport, document, examine
from vitalgate.report.sheet import draw_sheet
from vitalgate.report.sources import from_record, record_path

FS = 250.0
WAVES = ((-0.16, 0.13, 0.022), (-0.03, -0.1, 0.008), (0, 1.1, 0.011), (0.03, -0.25, 0.01), (0.27, 0.3, 0.05))
NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def made(leads: int = 1, seconds: float = 10, rr_s: float = 0.85, p_wave: bool = True, uneven: float = 0.0) -> Ecg:
    rng = np.random.default_rng(4)
    t = np.arange(round(seconds * FS)) / FS
    rows = [0.005 * rng.standard_normal(len(t)) for _ in range(leads)]
    at = 0.5
    while at < seconds - 0.3:
        for delay, height, width in WAVES if p_wave else WAVES[1:]:
            bump = height * np.exp(-0.5 * ((t - at - delay) / width) ** 2)
            for k, row in enumerate(rows):
                row += bump * (1 - 0.05 * k)
        at += rr_s * (1 + uneven * rng.uniform(-1, 1))
    start = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
    return Ecg(
        [f"ecg.{name}" for name in NAMES[:leads]], np.stack(rows), FS, start, {"patient": "p-1", "device": "d-1"}
    )


def texts(path: Path) -> str:
    return " | ".join(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8")))


def test_what_is_measured_and_said() -> None:
    found = examine(made(leads=3))
    said = document(found)
    assert said["measurements"]["heart_rate_per_min"] == pytest.approx(60 / 0.85, abs=0.5)
    for name, low, high in (("pr", 90, 210), ("qrs", 50, 120), ("qt", 320, 460), ("qtc.fridericia", 340, 480)):
        one = said["measurements"][f"{name}_ms"]
        assert low < one["value"] < high and one["withheld"] is None and 0 < one["confidence"] <= 1
    assert said["rhythm"]["code"] == "sinus" and said["rhythm_lead"] == "II"
    assert said["quality"]["I"] == {"grade": "good", "reason": None}
    assert len(said["beats"]) == 11 and {"p_on", "t_off"} <= said["beats"][3]["waves_s"]["II"].keys()
    assert {"vg-beats", "vg-delineation", "vg-intervals", "vg-quality"} <= said["algorithms"].keys()
    json.dumps(said, allow_nan=False)


def test_rhythms() -> None:
    assert examine(made(rr_s=1.2)).statement.text.endswith("bradycardia")
    uneven = examine(made(seconds=30, uneven=0.35, p_wave=False)).statement
    assert uneven.code in ("fibrillation", "irregular") and "P waves before" in " ".join(uneven.evidence)
    assert examine(made(seconds=3)).statement.code == "none"


def test_bad_signal_is_withheld_and_says_so(tmp_path: Path) -> None:
    ecg = made()
    rng = np.random.default_rng(0)
    found = examine(Ecg(ecg.leads, rng.standard_normal(ecg.samples.shape), FS, None, {}))
    said = document(found)
    assert said["rhythm"]["code"] == "none"
    assert said["measurements"]["qt_ms"]["value"] is None and said["measurements"]["qt_ms"]["withheld"]
    page = texts(draw_sheet(found, tmp_path / "bad.svg"))
    assert "No statement on the rhythm" in page and "withheld" in page and "bad" in page


@pytest.mark.parametrize(
    "samples", [np.full((1, 2500), np.nan), np.zeros((1, 2500)), np.full((2, 2500), np.inf)], ids=["nan", "flat", "inf"]
)
def test_no_signal(samples: np.ndarray, tmp_path: Path) -> None:
    found = examine(Ecg(["I", "II"][: len(samples)], samples, FS, None, {}))
    assert document(found)["measurements"]["heart_rate_per_min"] is None
    assert draw_sheet(found, tmp_path / "none.pdf").stat().st_size > 5000


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(NothingToReport, match="one lead and 2 s"):
        examine(made(seconds=1))
    with pytest.raises(NothingToReport, match="100 to 1000"):
        examine(Ecg(["I"], np.zeros((1, 500)), 50.0, None, {}))
    with pytest.raises(ValueError, match="can be drawn as"):
        draw_sheet(examine(made()), tmp_path / "x.gif")


@pytest.mark.parametrize(("leads", "seconds"), [(1, 35), (2, 8), (12, 10)])
def test_pages(leads: int, seconds: float, tmp_path: Path) -> None:
    found = examine(made(leads, seconds))
    page = texts(draw_sheet(found, tmp_path / "page.svg"))
    for text in (
        "ECG report", "p-1", "d-1", "Rate", "PR", "QRS", "QTc", "25 mm/s", "10 mm/mV", "0.5–40 Hz", "2026-11-21",
        "not a certified medical device", "vg-delineation 2", found.statement.text[:20],
    ):  # fmt: skip
        assert text in page, text
    assert set(NAMES[:leads]) <= set(page.split(" | "))
    pdf = draw_sheet(found, tmp_path / "page.pdf", "none").read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", pdf)
    assert box is not None and float(box[1]) * 25.4 / 72 == pytest.approx(297, abs=0.1), "A4, to scale"
    assert pdf == draw_sheet(found, tmp_path / "again.pdf", "none").read_bytes()


def test_a_file(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    ecg = made(2, 20)
    columns = np.column_stack([*(1000 * ecg.samples), np.zeros(ecg.samples.shape[1])])
    columns[:100, 0] = np.nan
    wfdb.wrsamp(
        "rec", fs=FS, units=["uV", "uV", "mmHg"], sig_name=["ecg.I", "ecg.II", "pressure"], p_signal=columns,
        fmt=["16"] * 3, adc_gain=[1.0] * 3, baseline=[0] * 3, write_dir=str(tmp_path),
        base_date=datetime(2026, 11, 21).date(), base_time=datetime(2026, 11, 21, 9, 30).time(),
    )  # fmt: skip
    assert record_path(str(tmp_path / "rec.hea")) == record_path(str(tmp_path / "rec")) == tmp_path / "rec"
    assert record_path(str(tmp_path)) is None and record_path("p-1") is None
    read = from_record(tmp_path / "rec", 5, 10)
    assert (
        read.leads == ["ecg.I", "ecg.II"] and read.samples.shape == (2, 2500) and str(read.start)[11:19] == "09:30:05"
    )
    assert np.nanmax(read.samples) == pytest.approx(1.1, abs=0.1), "millivolts"
    run = CliRunner().invoke(
        command, ["ecg", str(tmp_path / "rec"), "-o", str(tmp_path / "a.pdf"), "-o", str(tmp_path / "a.json")]
    )
    assert run.exit_code == 0 and "a.pdf: Regular" in run.output, run.output
    assert json.loads((tmp_path / "a.json").read_text())["identifiers"] == {"record": "rec"}
    for arguments, status, text in (
        (["ecg", str(tmp_path / "rec")], 2, "-o FILE"),
        (["ecg", str(tmp_path / "rec"), "-o", "x.docx"], 2, "must end in"),
        (["ecg", str(tmp_path / "rec"), "--skip", "100", "--json"], 1, "is not in it"),
        (["ecg", str(tmp_path / "rec"), "--channel", "V9", "--json"], 1, "no such ECG lead"),
    ):
        run = CliRunner().invoke(command, arguments)
        assert run.exit_code == status and text in run.output, run.output
    (tmp_path / "broken.hea").write_text("nonsense")
    run = CliRunner().invoke(command, ["ecg", str(tmp_path / "broken"), "--json"])
    assert run.exit_code == 1 and "cannot be read" in run.output


def test_a_patient_and_the_audit(deployment: DatabaseSettings, kafka_bootstrap: str, tmp_path: Path) -> None:
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"rep{os.getpid()}.", "kafka.partitions": "1",
        "database.dsn": deployment.dsn, "database.db_schema": deployment.db_schema,
    }  # fmt: skip
    loaded = load(flags=flags, env={}, data=str(tmp_path))
    create_topics(loaded.settings.kafka, (topics.AUDIT_INBOX,))

    def run(*arguments: str, using: Loaded = loaded) -> tuple[int, str]:
        result = CliRunner().invoke(command, ["ecg", *arguments], obj=_context.Options(loaded=using))
        return result.exit_code, result.output

    page = tmp_path / "p.svg"
    status, said = run("p1", "--at", "2026-11-20T09:00:01Z", "--seconds", "12", "-o", str(page))
    assert status == 0, said
    assert "p1" in texts(page) and "patch" in texts(page) and "2026-11-20  10:00:01" in texts(page), "in their own zone"
    [event] = [orjson.loads(m.value() or b"") for m in read_all(loaded.settings.kafka, topics.AUDIT_INBOX)]
    assert (event["action"], event["entity_type"], event["entity_id"]) == ("ecg_reported", "patient", "p1")
    assert event["detail"]["seconds"] == 12
    status, said = run("nobody", "--json")
    assert status == 1 and "no ECG of patient nobody" in said
    lost = load(flags=flags | {"kafka.bootstrap": "127.0.0.1:1"}, env={}, data=str(tmp_path))
    status, said = run("p1", "--json", using=lost)
    assert status == 1 and "nothing was read" in said, "what cannot be audited is not read"
