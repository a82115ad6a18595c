"""Counting of onsets, peaks and offsets: what is a miss, what is false, and that no error is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitalgate.scoring import delineation
from vitalgate.scoring.report import rows
from vitalgate.signal.delineation import MARKS, Delineation

wfdb = pytest.importorskip("wfdb")

FS = 500
BEATS = np.arange(1, 6) * 400
#: Samples from the R peak: P, QRS, T with onset, peak, offset.
WAVES = (-100, -80, -60, -20, 0, 22, 80, 130, 170)


@pytest.fixture
def ludb(tmp_path: Path) -> Path:
    """One record with leads i and ii; the first P wave and the last T wave are not marked, nor one QRS onset in i."""
    wfdb.wrsamp(
        "1", fs=FS, units=["mV", "mV"], sig_name=["i", "ii"], p_signal=np.zeros((2600, 2)), fmt=["16", "16"],
        adc_gain=[200, 200], baseline=[0, 0], write_dir=str(tmp_path),
    )  # fmt: skip
    for lead in ("i", "ii"):
        at, symbols = [], []
        for k, beat in enumerate(BEATS):
            for n, symbol in enumerate(("(", "p", ")", "(", "N", ")", "(", "t", ")")):
                if (k == 0 and n < 3) or (k == 4 and n > 5) or (lead == "i" and k == 2 and n == 3):
                    continue
                at.append(int(beat + WAVES[n]))
                symbols.append(symbol)
        wfdb.wrann("1", lead, np.array(at), symbols, fs=FS, write_dir=str(tmp_path))
    return tmp_path


def test_counting(ludb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = BEATS[:, np.newaxis, np.newaxis] + np.tile(np.array(WAVES, float), (2, 1))
    p_on, t_off, qrs_on = (MARKS.index(name) for name in ("p_on", "t_off", "qrs_on"))
    marks[:, :, qrs_on] += 3
    marks[1, 0, t_off] += 70
    marks[2, 0, t_off] += 80
    marks[3, 1, p_on] = np.nan

    def stub(signals: np.ndarray, fs: float, **_: object) -> Delineation:
        leads = 1 if np.ndim(signals) == 1 else len(signals)
        kept = marks[:, :leads]
        return Delineation(BEATS, kept, np.ones_like(kept), np.ones(5), np.ones(5))

    monkeypatch.setattr(delineation, "delineate", stub)
    document = delineation.score_delineation(ludb)
    # The first P wave lies before the first reference mark: it is not false. One is missed in ii.
    assert {key: document["p_on"][key] for key in ("tp", "fn", "fp")} == {"tp": 7, "fn": 1, "fp": 0}
    assert document["p_on"]["se"] == 87.5 and document["p_on"]["mean_ms"] == 0
    # 140 ms is an error that counts; 160 ms is a miss and a false mark.
    t = document["t_off"]
    assert (t["tp"], t["fn"], t["fp"]) == (7, 1, 1) and t["mean_ms"] == pytest.approx(20)
    assert t["sd_ms"] == pytest.approx(140 * np.sqrt(1 / 7), abs=0.01)
    # An onset that is not marked is found: false.
    assert document["qrs_on"]["mean_ms"] == 6 and document["qrs_on"]["sd_ms"] == 0 and document["qrs_on"]["fp"] == 1
    assert document["together"]["qrs_on"]["tp"] == 5 and document["together"]["t_off"]["fn"] == 0
    assert document["leads"]["ii"]["p_on"]["fn"] == 1 and document["leads"]["i"]["p_on"]["fn"] == 0
    assert document["alone"]["t_off"]["fn"] == 2, "the stand-in gives the marks of i for each lead alone"
    assert document["reference_scatter"]["qrs_off"]["sd_ms"] == 0
    keys = dict(rows({"delineation": document}))
    assert {"delineation.qrs_on.se", "delineation.t_off.sd_ms", "delineation.p_off.mean_ms"} <= keys.keys()
