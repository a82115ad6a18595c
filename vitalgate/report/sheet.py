"""The page of an ECG report: A4 landscape, laid out in millimetres, to be read at arm's length.

Above, from left to right: whose ECG it is; the measurements; the rhythm and what it rests on. Below them the ECG at
25 mm/s and 10 mm/mV: twelve leads as four columns of 2.5 s and the rhythm lead under them, up to four leads one under
the other for ten seconds, one lead continued on up to four rows. Printed without scaling, it can be measured.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitalgate.report.clean import Filter, clean, described
from vitalgate.report.ecg import NOT_A_DEVICE, Findings, algorithms, plain_name
from vitalgate.report.paper import MM_PER_MV, MM_PER_S, draw_calibration, draw_grid
from vitalgate.signal.intervals import Interval
from vitalgate.signal.quality import Grade

#: File endings of a page.
SUFFIXES = (".pdf", ".png", ".svg")
WIDTH, HEIGHT = 297.0, 210.0
#: Limits beyond which a figure is printed bold red, ms: the usual adult ones (AHA/ACCF/HRS 2009, Circulation 119:e241).
USUAL_MS = {"pr": (120.0, 200.0), "qrs": (0.0, 120.0), "qtc": (350.0, 460.0)}

_STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_LEFT, _RIGHT, _FLOOR, _CEILING = 24.0, 289.0, 15.0, 150.0
_TRACE = 34.0
"""Where traces begin; before it stand the calibration pulses."""
_ROW_S, _ROWS = 10.0, 4
_INK, _SOFT, _ALARM = "#17202e", "#5b6472", "#b91c1c"
_WAVES = (("p", "#0f766e"), ("qrs", "#1d5fa8"), ("t", "#c2410c"))
_KIND = {"N": "#1d5fa8", "S": "#7a3e9d", "V": "#c2410c", "F": "#b45309", "Q": "#6b7280"}
_GRADE = {Grade.GOOD: "#0f766e", Grade.USABLE: "#b45309", Grade.BAD: "#b91c1c"}


@dataclass(frozen=True)
class _Trace:
    lead: int
    from_s: float
    to_s: float
    at_mm: float
    """Where it begins, to the right of _TRACE."""


def draw_sheet(found: Findings, path: Path, choice: Filter = "monitor") -> Path:
    """Draw the page into a PDF, PNG or SVG file, by its suffix.

    Raises
    ------
    ValueError
        For another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.name}: a report can be drawn as {', '.join(SUFFIXES)}, not as {path.suffix or 'this'}")
    figure = Figure(figsize=(WIDTH / 25.4, HEIGHT / 25.4), dpi=150, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, HEIGHT)
    axes.set_xticks([])
    axes.set_yticks([])
    _identity(axes, found)
    _measurements(axes, found)
    _rhythm(axes, found)
    rows = _rows(found)
    _ecg(axes, found, rows, choice)
    _footer(axes, found, rows, choice)
    title = f"ECG report {' '.join(found.ecg.identifiers.values())}".strip()
    plain = {".pdf": {"Title": title, "CreationDate": None}, ".svg": {"Title": title, "Date": None}}
    figure.savefig(path, metadata=plain.get(path.suffix.lower(), {"Title": title}))
    return path


def _text(axes: Axes, x: float, y: float, text: str, size: float, **kw: Any) -> None:
    axes.text(x, y, text, **{"fontsize": size, "color": _INK, "va": "baseline", **kw})


def _identity(axes: Axes, found: Findings) -> None:
    ecg = found.ecg
    _text(axes, 12, 198, "ECG report", 17, fontweight="bold")
    y = 191.5
    if ecg.start is not None:
        _text(axes, 12, y, f"{ecg.start:%Y-%m-%d  %H:%M:%S} {ecg.start.tzname() or ''}", 11)
    else:
        _text(axes, 12, y, "time not known", 11, color=_SOFT)
    leads = ", ".join(plain_name(lead) for lead in ecg.leads) if len(ecg.leads) <= 4 else f"{len(ecg.leads)} leads"
    for label, value in {**ecg.identifiers, "recorded": f"{leads}, {ecg.seconds:.4g} s at {ecg.rate:g} Hz"}.items():
        y -= 5.2
        _text(axes, 12, y, label, 8, color=_SOFT)
        _text(axes, 31, y, textwrap.shorten(value, 36, placeholder="…"), 10)
    _quality(axes, found, y - 6.4)


def _quality(axes: Axes, found: Findings, y: float) -> None:
    _text(axes, 12, y, "Signal", 9, color=_SOFT, fontweight="bold")
    grades = [found.lead_grade(k) for k in range(len(found.ecg.leads))]
    names = [plain_name(lead) for lead in found.ecg.leads]
    counts = {grade: [names[k] for k, (other, _) in enumerate(grades) if other is grade] for grade in Grade}
    reasons = {names[k]: reason for k, (_, reason) in enumerate(grades)}
    for grade, leads in counts.items():
        if not leads:
            continue
        y -= 4.4
        every = len(leads) == len(grades) > 1 and grade is Grade.GOOD
        named = "all leads" if every else ", ".join(
            f"{lead} ({reasons[lead].replace('_', ' ')})" if reasons[lead] else lead for lead in leads
        )  # fmt: skip
        _text(axes, 12, y, str(grade), 9, color=_GRADE[grade], fontweight="bold")
        _text(axes, 26, y, textwrap.shorten(named, 44, placeholder="…"), 8.5)


def _measurements(axes: Axes, found: Findings) -> None:
    left = 98.0
    _text(axes, left, 200, "Measurements", 9, color=_SOFT, fontweight="bold")
    rate = found.rate_per_min
    _figure(axes, left, 190, "Rate", "—" if rate is None else f"{rate:.0f}", "/min", alarm=False)
    if found.all_bad:
        _text(axes, left + 34, 190, "withheld: the signal is bad", 7.5, color=_SOFT)
    short = {name: found.intervals[name] for name in ("pr", "qrs", "qt")} | {"qtc": found.intervals["qtc.fridericia"]}
    for k, (name, one) in enumerate(short.items()):
        label = {"pr": "PR", "qrs": "QRS", "qt": "QT", "qtc": "QTc"}[name]
        _figure(axes, left, 182.0 - 8 * k, label, _ms(one), "ms", alarm=_unusual(name, one))
        note = _note(one) if name != "qtc" or one.ms is None else "Fridericia; " + _note(one)
        _text(axes, left + 34, 182.0 - 8 * k, note, 7.5, color=_SOFT)
    rest = "   ".join(f"{name.title()} {_ms(found.intervals[f'qtc.{name}'])}" for name in (
        "bazett", "framingham", "hodges"))  # fmt: skip
    _text(axes, left, 153.2, f"QTc  {rest}  ms", 8.5)


def _figure(axes: Axes, x: float, y: float, label: str, value: str, unit: str, *, alarm: bool) -> None:
    _text(axes, x, y, label, 11)
    _text(axes, x + 24, y, value, 15, fontweight="bold", ha="right", color=_ALARM if alarm else _INK)
    _text(axes, x + 25, y, unit, 9, color=_SOFT)


def _ms(one: Interval) -> str:
    return "—" if one.ms is None else f"{one.ms:.0f}"


def _note(one: Interval) -> str:
    if one.ms is None:
        return textwrap.shorten(f"withheld: {one.reason}", 46, placeholder="…")
    return f"{one.beats} beats, confidence {100 * one.confidence:.0f} %"


def _unusual(name: str, one: Interval) -> bool:
    low, high = USUAL_MS.get(name, (0.0, math.inf))
    return one.ms is not None and not low <= one.ms < high + (1 if name == "pr" else 0)


def _rhythm(axes: Axes, found: Findings) -> None:
    left = 200.0
    _text(axes, left, 200, "Rhythm", 9, color=_SOFT, fontweight="bold")
    y = 194.0
    for line in textwrap.wrap(found.statement.text, 40):
        _text(axes, left, y, line, 12, fontweight="bold")
        y -= 5.6
    for entry in found.statement.evidence:
        for k, line in enumerate(textwrap.wrap(entry, 58)):
            _text(axes, left, y, ("· " if k == 0 else "  ") + line, 8.5)
            y -= 4.2


def _rows(found: Findings) -> list[list[_Trace]]:
    """What is drawn on each row."""
    ecg = found.ecg
    shown = min(ecg.seconds, _ROW_S)
    count = len(ecg.leads)
    if count == 1:
        pieces = min(_ROWS, math.ceil(ecg.seconds / _ROW_S - 1e-6))
        return [[_Trace(0, _ROW_S * k, min(ecg.seconds, _ROW_S * (k + 1)), 0.0)] for k in range(pieces)]
    if count <= _ROWS:
        return [[_Trace(lead, 0.0, shown, 0.0)] for lead in range(count)]
    place = {plain_name(lead): k for k, lead in enumerate(ecg.leads)}
    order = [place[name] for name in _STANDARD if name in place]
    order += [k for k in range(count) if k not in order]
    columns = math.ceil(min(len(order), 12) / 3)
    length = shown / columns
    rows = [
        [_Trace(order[3 * c + r], length * c, length * (c + 1), length * c * MM_PER_S) for c in range(columns)
         if 3 * c + r < min(len(order), 12)]
        for r in range(3)
    ]  # fmt: skip
    return [*rows, [_Trace(found.rhythm_lead, 0.0, shown, 0.0)]]


def _ecg(axes: Axes, found: Findings, rows: list[list[_Trace]], choice: Filter) -> None:
    ecg = found.ecg
    draw_grid(axes, _LEFT, _RIGHT, _FLOOR, _CEILING)
    paper = Rectangle((_LEFT, _FLOOR), _RIGHT - _LEFT, _CEILING - _FLOOR, transform=axes.transData)
    cleaned = {lead: clean(ecg.samples[lead], ecg.rate, choice) for lead in {t.lead for row in rows for t in row}}
    tall = (_CEILING - _FLOOR - 6) / len(rows)
    for k, row in enumerate(rows):
        zero = _zero(_CEILING - 4 - tall * k - 0.62 * tall)
        draw_calibration(axes, _TRACE, zero)
        for trace in row:
            samples = cleaned[trace.lead]
            low, high = round(trace.from_s * ecg.rate), round(trace.to_s * ecg.rate)
            x = _TRACE + trace.at_mm + (np.arange(low, high) / ecg.rate - trace.from_s) * MM_PER_S
            (line,) = axes.plot(x, zero + samples[low:high] * MM_PER_MV, color=_INK, linewidth=0.8, zorder=4,
                                solid_joinstyle="round")  # fmt: skip
            line.set_clip_path(paper)
            named = trace.from_s == 0 or len(rows[0]) > 1
            label = plain_name(ecg.leads[trace.lead]) if named else f"{trace.from_s:g} s"
            _text(axes, _TRACE + trace.at_mm + 1, zero + 11.5, label, 10, fontweight="bold", zorder=6,
                  bbox={"facecolor": "#fffaf7", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})  # fmt: skip
            if trace.at_mm:
                at = _TRACE + trace.at_mm
                axes.plot([at, at], [zero - 4, zero + 4], color=_INK, linewidth=0.6, zorder=5)
            missing = not np.isfinite(samples[low:high]).any()
            if missing:
                _text(axes, float(x.mean()), zero + 1, "no signal", 9, color=_SOFT, ha="center", style="italic")
            if trace.lead == found.rhythm_lead and len(row) == 1:
                _marks(axes, found, trace, zero - 0.30 * tall, zero + 0.52 * tall)


def _zero(y: float) -> float:
    """A zero line on a bold line of the paper."""
    return _FLOOR + 5 * round((y - _FLOOR) / 5)


def _marks(axes: Axes, found: Findings, trace: _Trace, low: float, high: float) -> None:
    """Over the trace every beat and its class, under it where P, QRS and T were found."""
    rate = found.ecg.rate

    def place(sample: float) -> float:
        return _TRACE + trace.at_mm + (sample / rate - trace.from_s) * MM_PER_S

    for k, (beat, kind) in enumerate(zip(found.beats, found.kinds, strict=True)):
        if not trace.from_s <= beat / rate < trace.to_s:
            continue
        axes.plot(place(beat), high, marker="v", markersize=4.5, color=_KIND[str(kind)], markeredgewidth=0, zorder=6)
        if kind not in ("N", "Q"):
            _text(axes, place(beat), high + 1.4, str(kind), 8, color=_KIND[str(kind)], ha="center", fontweight="bold")
        for wave, colour in _WAVES:
            onset, offset = (float(found.waves.mark(f"{wave}_{end}")[k, trace.lead]) for end in ("on", "off"))
            if np.isfinite(onset) and np.isfinite(offset):
                begin, end = place(onset), min(place(offset), place(trace.to_s * rate))
                if end > begin >= _TRACE + trace.at_mm:
                    axes.plot([begin, end], [low, low], color=colour, linewidth=2.6, solid_capstyle="butt", zorder=5)


def _footer(axes: Axes, found: Findings, rows: list[list[_Trace]], choice: Filter) -> None:
    shown = max(trace.to_s for row in rows for trace in row)
    more = found.ecg.seconds > shown + 1
    of = f"   ·   {shown:g} s of {found.ecg.seconds:.4g} s shown, all of it measured" if more else ""
    text = f"{MM_PER_S:g} mm/s   ·   {MM_PER_MV:g} mm/mV   ·   filter of the trace: {described(choice)}{of}"
    _text(axes, _LEFT, 10.4, text, 9)
    x = _RIGHT
    for wave, colour in reversed(_WAVES):
        x -= 4.5 + 2.2 * len(wave)
        axes.plot([x, x + 3.5], [11.4, 11.4], color=colour, linewidth=2.6, solid_capstyle="butt")
        _text(axes, x + 4.2, 10.4, wave.upper(), 8)
    versions = ", ".join(f"{name} {version}" for name, version in algorithms().items())
    _text(axes, _LEFT, 6.4, f"Measured on the signal as recorded, by {versions}.", 7.5, color=_SOFT)
    _text(axes, _LEFT, 2.4, NOT_A_DEVICE, 8.5, fontweight="bold")
