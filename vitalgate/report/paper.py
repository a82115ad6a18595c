"""ECG paper: a signal drawn at 25 mm/s and 10 mm/mV on a millimetre grid, with what was found in it.

Everything is laid out in millimetres, so that a PDF printed without scaling can be measured with a ruler. One small box
is 1 mm: 40 ms and 0.1 mV; one large box 5 mm: 200 ms and 0.5 mV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

MM_PER_S = 25.0
MM_PER_MV = 10.0
#: File endings that can be written.
SUFFIXES = (".png", ".pdf", ".svg")
_DPI = 200
_INCH = 25.4

_PAPER, _FINE, _BOLD, _INK = "#fffaf7", "#f7d5cd", "#eba99d", "#17202e"
_TEXT, _SOFT, _BEAT, _GAP = "#17202e", "#6b7280", "#1d5fa8", "#e8e5e1"
_CLASS = {"N": _BEAT, "S": "#7a3e9d", "V": "#c2410c", "F": "#b45309", "Q": "#6b7280"}
_EVENT = {
    "asystole": "#b91c1c", "pause": "#c2410c", "bradycardia": "#0f766e", "tachycardia": "#a21caf",
}  # fmt: skip

_LEFT, _RIGHT = 17.0, 8.0
_TOP, _BOTTOM = 17.0, 12.0
_ABOVE, _LANE = 3.5, 5.0
"""Millimetres over a row's trace for beat marks, and for each lane of rhythm marks."""
_ROW_GAP = 5.0
_SHORTEST_ROW, _TALLEST_ROW = 25.0, 60.0
_ROW_S, _LONGEST_ROW_S = 10.0, 12.5
_TEXT_S = 0.075
"""About the width of a letter of a rhythm mark, in seconds of paper."""


@dataclass(frozen=True)
class Mark:
    """A beat."""

    at_s: float
    """Seconds from the start of the strip."""
    kind: str = "N"


@dataclass(frozen=True)
class Span:
    """Something that the rhythm did for a while."""

    from_s: float
    to_s: float
    kind: str
    text: str


@dataclass(frozen=True)
class Lead:
    """One lead of a strip: samples in mV (NaN where there is no signal) from the strip's start on."""

    label: str
    samples: NDArray[np.floating[Any]]
    rate: float


@dataclass(frozen=True)
class Strip:
    """All that is drawn."""

    title: str
    start: datetime
    """Time of the first sample, in the zone that is to be printed."""
    seconds: float
    leads: Sequence[Lead]
    filter: str
    """The filter in words; it is printed, since it changes what is seen."""
    beats: Sequence[Mark] = ()
    spans: Sequence[Span] = ()
    summary: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class _Row:
    lead: Lead
    from_s: float
    to_s: float
    low_mm: float
    high_mm: float
    """Reach of the trace below and above its zero line."""
    lanes: tuple[tuple[Span, int], ...]
    """Rhythm marks, each with the lane in which it overlaps no other."""

    @property
    def above_mm(self) -> float:
        """Room for marks over the trace."""
        return _ABOVE + _LANE * (1 + max(lane for _, lane in self.lanes)) if self.lanes else _ABOVE


def draw(strip: Strip, path: Path) -> Path:
    """Draw a strip into a PNG, PDF or SVG file, by its suffix.

    One lead is continued on further rows of ten seconds; several leads are put one under the other.

    Raises
    ------
    ValueError
        For another suffix, no lead, or a strip longer than five minutes.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path.name}: a strip can be written as {', '.join(SUFFIXES)}, not as {path.suffix or 'this'}"
        )
    if not strip.leads:
        raise ValueError("a strip needs at least one lead")
    if not 0 < strip.seconds <= 300:
        raise ValueError(f"a strip of {strip.seconds:g} s cannot be drawn; 300 s is the most")
    rows = _rows(strip)
    shown = max(row.to_s - row.from_s for row in rows)
    width = _LEFT + math.ceil(shown * MM_PER_S / 5) * 5 + _RIGHT
    heights = [row.above_mm + row.high_mm + row.low_mm for row in rows]
    height = _TOP + sum(heights) + _ROW_GAP * (len(rows) - 1) + _BOTTOM
    figure = Figure(figsize=(width / _INCH, height / _INCH), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_xticks([])
    axes.set_yticks([])
    _header(axes, strip, width, height)
    top = height - _TOP
    for row, tall in zip(rows, heights, strict=True):
        _draw_row(axes, strip, row, top, width)
        top -= tall + _ROW_GAP
    _footer(axes, strip, width)
    figure.savefig(path, metadata=_metadata(path, strip))
    return path


def _metadata(path: Path, strip: Strip) -> dict[str, Any]:
    if path.suffix.lower() == ".pdf":
        return {"Title": strip.title, "CreationDate": None}
    return {"Title": strip.title} | ({"Date": None} if path.suffix.lower() == ".svg" else {})


def _rows(strip: Strip) -> list[_Row]:
    rows = []
    for lead in strip.leads:
        alone = len(strip.leads) == 1 and strip.seconds > _LONGEST_ROW_S
        pieces = math.ceil(strip.seconds / _ROW_S - 1e-6) if alone else 1
        length = min(strip.seconds, _ROW_S) if pieces > 1 else strip.seconds
        low, high = _reach(lead.samples)
        for piece in range(pieces):
            begin, end = piece * length, min(strip.seconds, (piece + 1) * length)
            here = [span for span in strip.spans if span.from_s < end and span.to_s > begin]
            rows.append(_Row(lead, begin, end, low, high, _lanes(here, begin) if lead is strip.leads[0] else ()))
    return rows


def _lanes(spans: Sequence[Span], begin: float) -> tuple[tuple[Span, int], ...]:
    """Each span in the lowest lane where neither it nor its text overlaps another."""
    free: list[float] = []
    placed = []
    for span in sorted(spans, key=lambda s: (s.from_s, -s.to_s)):
        onset = max(span.from_s, begin)
        lane = next((k for k, until in enumerate(free) if until <= onset), len(free))
        if lane == len(free):
            free.append(0.0)
        free[lane] = max(span.to_s, onset + len(span.text) * _TEXT_S)
        placed.append((span, lane))
    return tuple(placed)


def _reach(samples: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Millimetres that a lead needs below and above zero: whole large boxes, within what a row may take."""
    good = samples[np.isfinite(samples)]
    low, high = (float(np.quantile(good, q)) for q in (0.0005, 0.9995)) if good.size else (-0.5, 1.0)
    below = 5 * math.ceil((max(0.0, -low) * MM_PER_MV + 4) / 5)
    above = 5 * math.ceil((max(0.0, high) * MM_PER_MV + 4) / 5)
    missing = max(0.0, _SHORTEST_ROW - below - above)
    above += 5 * math.ceil(missing / 5)
    return min(below, _TALLEST_ROW / 2), min(above, _TALLEST_ROW)


def _draw_row(axes: Axes, strip: Strip, row: _Row, top: float, width: float) -> None:
    left, right = _LEFT, width - _RIGHT
    ceiling = top - row.above_mm
    zero = ceiling - row.high_mm
    floor = zero - row.low_mm
    draw_grid(axes, left - 10, right, floor, ceiling)
    clip = Rectangle((left - 10, floor), right - left + 10, ceiling - floor, transform=axes.transData)
    draw_calibration(axes, left, zero)
    _gaps(axes, row, left, floor, ceiling)
    _trace(axes, row, left, zero, clip)
    axes.text(left - 10, ceiling + 0.9, row.lead.label, fontsize=8, fontweight="bold", color=_TEXT, va="bottom")
    _clock(axes, strip, row, left, floor)
    _spans(axes, row, left, ceiling, floor)
    if row.lead is strip.leads[0]:
        _beats(axes, strip, row, left, ceiling)


def draw_grid(axes: Axes, left: float, right: float, floor: float, ceiling: float) -> None:
    """Millimetre paper between these edges, every fifth line bold."""
    size = (right - left, ceiling - floor)
    axes.add_patch(Rectangle((left, floor), *size, facecolor=_PAPER, edgecolor="none", zorder=0))
    for colour, width, boxes in ((_FINE, 0.25, False), (_BOLD, 0.5, True)):
        xs = [left + k for k in range(round(right - left) + 1) if (k % 5 == 0) == boxes]
        ys = [floor + k for k in range(round(ceiling - floor) + 1) if (k % 5 == 0) == boxes]
        lines = [((x, floor), (x, ceiling)) for x in xs] + [((left, y), (right, y)) for y in ys]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=1))


def draw_calibration(axes: Axes, left: float, zero: float) -> None:
    """A pulse of 1 mV and 200 ms in the 10 mm before ``left``."""
    xs = [left - 9, left - 7.5, left - 7.5, left - 2.5, left - 2.5, left - 1]
    ys = [0, 0, MM_PER_MV, MM_PER_MV, 0, 0]
    axes.plot(xs, [zero + y for y in ys], color=_INK, linewidth=0.9, solid_joinstyle="miter", zorder=5)


def _piece(row: _Row) -> tuple[int, NDArray[np.floating[Any]]]:
    first = round(row.from_s * row.lead.rate)
    # One more sample than belongs here, so that rows join.
    return first, row.lead.samples[first : round(row.to_s * row.lead.rate) + 1]


def _trace(axes: Axes, row: _Row, left: float, zero: float, clip: Rectangle) -> None:
    first, samples = _piece(row)
    x = left + ((first + np.arange(len(samples))) / row.lead.rate - row.from_s) * MM_PER_S
    (line,) = axes.plot(
        x, zero + samples * MM_PER_MV, color=_INK, linewidth=0.85, solid_joinstyle="round", solid_capstyle="round",
        zorder=4,
    )  # fmt: skip
    line.set_clip_path(clip)


def _gaps(axes: Axes, row: _Row, left: float, floor: float, ceiling: float) -> None:
    _, samples = _piece(row)
    expected = round((row.to_s - row.from_s) * row.lead.rate)
    missing = np.ones(expected, np.bool_)
    missing[: len(samples)] = ~np.isfinite(samples[:expected])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        x, wide = left + begin / row.lead.rate * MM_PER_S, (end - begin) / row.lead.rate * MM_PER_S
        box = Rectangle((x, floor), wide, ceiling - floor, facecolor=_GAP, edgecolor="none", alpha=0.85, zorder=2)
        axes.add_patch(box)
        if wide > 14:
            axes.text(
                x + wide / 2, (floor + ceiling) / 2, "no signal", fontsize=7, color=_SOFT, ha="center", va="center",
                style="italic", zorder=3,
            )  # fmt: skip


def _spans(axes: Axes, row: _Row, left: float, ceiling: float, floor: float) -> None:
    for span, lane in row.lanes:
        begin, end = max(span.from_s, row.from_s), min(span.to_s, row.to_s)
        colour = _EVENT.get(span.kind, _SOFT)
        x, wide = left + (begin - row.from_s) * MM_PER_S, (end - begin) * MM_PER_S
        axes.add_patch(
            Rectangle((x, floor), wide, ceiling - floor, facecolor=colour, alpha=0.07, edgecolor="none", zorder=2)
        )
        y = ceiling + 4.6 + _LANE * lane
        axes.plot([x, x + wide], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=6)
        for edge in (x, x + wide):
            axes.plot([edge, edge], [y - 0.9, y], color=colour, linewidth=0.8, zorder=6)
        axes.text(x, y + 0.8, span.text, fontsize=6.5, color=colour, va="bottom", fontweight="bold")


def _beats(axes: Axes, strip: Strip, row: _Row, left: float, ceiling: float) -> None:
    here = [beat for beat in strip.beats if row.from_s <= beat.at_s < row.to_s]
    everything = sorted(strip.beats, key=lambda beat: beat.at_s)
    previous = dict(zip([b.at_s for b in everything[1:]], [b.at_s for b in everything[:-1]], strict=True))
    for beat in here:
        x = left + (beat.at_s - row.from_s) * MM_PER_S
        colour = _CLASS.get(beat.kind, _BEAT)
        axes.plot(x, ceiling + 1.3, marker="v", markersize=4.2, color=colour, markeredgewidth=0, zorder=6)
        if beat.kind != "N":
            axes.text(x, ceiling + 2.3, beat.kind, fontsize=6, color=colour, ha="center", va="bottom")
        before = previous.get(beat.at_s)
        if before is not None and before >= row.from_s and (beat.at_s - before) * MM_PER_S >= 8:
            middle = left + ((beat.at_s + before) / 2 - row.from_s) * MM_PER_S
            axes.text(
                middle, ceiling + 1.3, f"{(beat.at_s - before) * 1000:.0f}", fontsize=5.2, color=_SOFT, ha="center",
                va="center",
            )  # fmt: skip


def _clock(axes: Axes, strip: Strip, row: _Row, left: float, floor: float) -> None:
    """A tick at every full second of the clock, its time at the first and at every fifth."""
    begin = strip.start + timedelta(seconds=row.from_s)
    second = math.ceil(begin.microsecond / 1e6)
    moment = begin.replace(microsecond=0) + timedelta(seconds=second)
    first = True
    while (at := (moment - strip.start).total_seconds()) <= row.to_s:
        x = left + (at - row.from_s) * MM_PER_S
        axes.plot([x, x], [floor, floor - 1.1], color=_SOFT, linewidth=0.6)
        if moment.second % 5 == 0 or (first and moment.second % 5 < 4):
            axes.text(x, floor - 1.6, f"{moment:%H:%M:%S}", fontsize=5.8, color=_SOFT, ha="center", va="top")
        first = False
        moment += timedelta(seconds=1)


def _header(axes: Axes, strip: Strip, width: float, height: float) -> None:
    axes.text(_LEFT - 10, height - 6, strip.title, fontsize=11, fontweight="bold", color=_TEXT, va="center")
    zone = strip.start.tzname() or "UTC"
    axes.text(
        _LEFT - 10, height - 11.5, f"{strip.start:%Y-%m-%d %H:%M:%S} {zone}  ·  {strip.seconds:g} s", fontsize=8,
        color=_SOFT, va="center",
    )  # fmt: skip
    if strip.summary:
        axes.text(
            width - _RIGHT, height - 6, strip.summary, fontsize=10, color=_TEXT, va="center", ha="right",
        )  # fmt: skip
    for k, note in enumerate(strip.notes[:1]):
        axes.text(width - _RIGHT, height - 11.5 - 4 * k, note, fontsize=7, color=_SOFT, va="center", ha="right")


def _footer(axes: Axes, strip: Strip, width: float) -> None:
    text = f"{MM_PER_S:g} mm/s   ·   {MM_PER_MV:g} mm/mV   ·   filter: {strip.filter}"
    axes.text(_LEFT - 10, 4, text, fontsize=7, color=_TEXT, va="center")
    axes.text(width - _RIGHT, 4, "Not for diagnosis", fontsize=7, color=_SOFT, va="center", ha="right", style="italic")
