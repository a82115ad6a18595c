"""`vitalgate score` on made-up databases: recognised, counted, printed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vitalgate.cli.score import command
from vitalgate.scoring import databases, detectors
from vitalgate.scoring.databases import Database, DatabaseError
from vitalgate.scoring.report import rows, score_folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_json_has_the_keys_of_the_format(mitdb: Path) -> None:
    document = json.loads(run(str(mitdb), "--json"))
    beats = document["beats"]
    for part in ("gross", "strict"):
        assert set(beats[part]) >= {"se", "ppv", "f1", "tp", "fn", "fp"}
    assert beats["gross"]["f1"] == 100.0 and beats["gross"]["tp"] == 900
    assert set(beats["records"]) == {"102", "900"}
    # Without the paced record and the first five minutes: one minute of one record.
    assert 70 <= beats["strict"]["tp"] <= 76


def test_packets_change_nothing(mitdb: Path) -> None:
    whole, streamed = (json.loads(run(str(mitdb), "--json", *more)) for more in ((), ("--stream", "97")))
    assert streamed["beats"]["records"] == whole["beats"]["records"]


def test_a_lead_by_name_or_number(mitdb: Path) -> None:
    by_name, by_number = (json.loads(run(str(mitdb), "--json", "--leads", lead)) for lead in ("v1", "1"))
    assert by_name["beats"]["records"]["900"]["lead"] == by_number["beats"]["records"]["900"]["lead"] == "V1"
    absent = score_folder(mitdb, "aVF")
    assert absent["beats"]["n_records"] == 0 and absent["beats"]["gross"]["f1"] is None
    assert absent["beats"]["excluded"]["records_without_lead"] == ["102", "900"]


def test_text_and_csv(mitdb: Path) -> None:
    assert "records.900" in run(str(mitdb))
    table = dict(csv.reader(run(str(mitdb), "--csv").splitlines()))
    assert table["beats.gross.f1"] == "100.0"
    assert dict(rows({"a": {"b": [1, 2]}})) == {"a.b": "1, 2"}


def test_other_detectors_are_scored_alike(mitdb: Path) -> None:
    assert "vitalgate" in run(str(mitdb), "--list-detectors").splitlines()
    document = json.loads(run(str(mitdb), "--json", "--detector", "wfdb:xqrs"))
    assert document["beats"]["detector"] == "wfdb:xqrs" and document["beats"]["gross"]["f1"] > 95


def test_what_cannot_be_scored_says_so(mitdb: Path, tmp_path: Path) -> None:
    for arguments in (("--detector", "nonsense"), ("--detector", "wfdb:xqrs", "--stream", "100")):
        assert CliRunner().invoke(command, [str(mitdb), *arguments]).exit_code == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatabaseError, match="no database"):
        score_folder(empty)
    with pytest.raises(detectors.UnknownDetector, match="there are"):
        detectors.detector("nonsense")


def test_folders_are_recognised(tmp_path: Path, mitdb: Path) -> None:
    assert databases.recognise(mitdb) is Database.MIT_BIH
    afdb = tmp_path / "afdb"
    afdb.mkdir()
    (afdb / "qrs00001.txt").write_text("0\t0.1\t25\n1\t0.8\t225\n2\t0.8\t425\n")
    (afdb / "atr00001.txt").write_text(
        "Elapsed time  Sample #  Type  Sub Chan  Num\tAux\n 0:00.1 30 + 0 0 0\t(N\n 0:01 300 + 0 0 0 (AFIB\n"
    )
    assert databases.recognise(afdb) is Database.AFDB
    read = databases.read_intervals(afdb, "00001")
    assert np.array_equal(read.beats, [25, 225, 425])
    assert [(r.onset, r.offset, r.label) for r in read.rhythms] == [(30, 300, "N"), (300, 426, "AFIB")]
