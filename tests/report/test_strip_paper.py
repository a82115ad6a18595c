"""Strips are drawn to scale, and what belongs on them is on them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from vitalgate.report.clean import clean
from vitalgate.report.paper import Lead, Mark, Span, Strip, draw


def strip(seconds: float = 10.0, rate: float = 250.0, leads: int = 1, **changes: object) -> Strip:
    t = np.arange(round(seconds * rate)) / rate
    signal = np.exp(-(((t % 0.8) - 0.4) ** 2) / 0.0004)
    fields = {
        "title": "Patient p-1", "start": datetime(2026, 11, 21, 10, 0, 3, 250_000, tzinfo=UTC), "seconds": seconds,
        "leads": [Lead(name, signal, rate) for name in ("I", "II", "III")[:leads]], "filter": "none (as recorded)",
        "beats": [Mark(at) for at in np.arange(0.4, seconds, 0.8)],
    }  # fmt: skip
    return Strip(**(fields | changes))  # type: ignore[arg-type]


def texts(path: Path) -> str:
    """What an SVG says: matplotlib leaves each text as a comment beside its outlines."""
    return " | ".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_every_form(suffix: str, tmp_path: Path) -> None:
    path = draw(strip(), tmp_path / f"strip.{suffix}")
    assert path.stat().st_size > 5000


def test_pdf_is_to_scale(tmp_path: Path) -> None:
    page = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", draw(strip(), tmp_path / "s.pdf").read_bytes())
    assert page is not None
    # 17 mm to the left of the trace, 250 mm for ten seconds, 8 mm to the right; a point is 25.4 / 72 mm.
    assert float(page[1]) * 25.4 / 72 == pytest.approx(275, abs=0.1)


def test_same_strip_same_bytes(tmp_path: Path) -> None:
    assert draw(strip(), tmp_path / "a.png").read_bytes() == draw(strip(), tmp_path / "b.png").read_bytes()


def test_what_is_written_on_it(tmp_path: Path) -> None:
    signal = strip().leads[0].samples.copy()
    signal[500:1000] = np.nan
    told = strip(leads=1, spans=[Span(1.0, 4.7, "pause", "pause 3.7 s")], summary="75 /min")
    told = Strip(**{**told.__dict__, "leads": [Lead("II", signal, 250.0)]})
    said = texts(draw(told, tmp_path / "s.svg"))
    for text in ("Patient p-1", "2026-11-21 10:00:03 UTC", "25 mm/s", "10 mm/mV", "filter: none", "pause 3.7 s",
                 "no signal", "75 /min", "II", "800", "10:00:05", "Not for diagnosis"):  # fmt: skip
        assert text in said, text


def test_long_strips_go_on_below_and_leads_stand_one_under_the_other(tmp_path: Path) -> None:
    assert texts(draw(strip(30), tmp_path / "long.svg")).count("| I |") == 3
    said = texts(draw(strip(leads=3), tmp_path / "leads.svg"))
    assert all(f"| {name} |" in said for name in ("I", "II", "III"))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can be written as"):
        draw(strip(), tmp_path / "s.gif")
    with pytest.raises(ValueError, match="at least one lead"):
        draw(strip(leads=0), tmp_path / "s.png")
    with pytest.raises(ValueError, match="300 s is the most"):
        draw(strip(301, rate=100), tmp_path / "s.png")


def test_no_signal_at_all(tmp_path: Path) -> None:
    empty = strip(leads=1, beats=())
    empty = Strip(**{**empty.__dict__, "leads": [Lead("II", np.full(2500, np.nan), 250.0)]})
    assert "no signal" in texts(draw(empty, tmp_path / "s.svg"))


def test_filter_levels_and_keeps_gaps_and_places() -> None:
    t = np.arange(2500) / 250
    peaks = np.exp(-(((t % 1.0) - 0.5) ** 2) / 0.0002)
    wandering = peaks + 2 * np.sin(2 * np.pi * 0.15 * t) + 5
    wandering[1200:1300] = np.nan
    cleaned = clean(wandering, 250, "monitor")
    assert np.array_equal(np.isnan(cleaned), np.isnan(wandering))
    assert abs(np.nanmedian(cleaned)) < 0.1
    for second in range(1, 4):
        window = slice(second * 250, second * 250 + 250)
        assert abs(int(np.argmax(cleaned[window])) - 125) <= 1, "zero phase: a peak stays where it is"
    assert np.array_equal(clean(wandering, 250, "none"), wandering, equal_nan=True)
