"""Delineation on LUDB with a margin, so that a loss of accuracy fails; on records that its models were trained on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from vitalgate.scoring.delineation import score_delineation

#: Every so many records is enough to see a loss.
EVERY = 8


@pytest.fixture(scope="module")
def ludb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("VITALGATE_ECG_DATA")
    folder = (Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data") / "ludb"
    if not folder.is_dir():
        pytest.skip(f"no reference recordings: {folder} is not there (set VITALGATE_ECG_DATA)")
    few = tmp_path_factory.mktemp("ludb")
    for header in sorted(folder.glob("*.hea"), key=lambda path: int(path.stem))[::EVERY]:
        for path in folder.glob(f"{header.stem}.*"):
            shutil.copy(path, few / path.name)
    return few


def test_ludb(ludb: Path) -> None:
    score = score_delineation(ludb)
    assert score["n_records"] >= 12
    for mark, least, sd in (("p_on", 97, 17), ("p_off", 97, 15), ("qrs_on", 99, 9.5), ("qrs_off", 99, 11.6),
                            ("t_off", 97, 26)):  # fmt: skip
        assert score[mark]["se"] >= least and score[mark]["sd_ms"] <= sd, (mark, score[mark])
    # The limits of the CSE working party, on what it takes: one boundary for all leads.
    for mark, sd in (("p_on", 10.2), ("p_off", 12.7), ("qrs_on", 6.5), ("qrs_off", 11.6), ("t_off", 30.6)):
        one = score["together"][mark]
        assert one["sd_ms"] <= sd and abs(one["mean_ms"]) <= sd / 2, (mark, one)
    assert score["alone"]["qrs_on"]["se"] >= 99 and score["alone"]["p_on"]["se"] >= 95
