"""How the demo looks on a terminal: progress while it runs, and a summary worth reading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vitalgate.simulators.demo import Demo, Show
from vitalgate.simulators.fleet import Progress
from vitalgate.simulators.reckoning import percentile
from vitalgate.simulators.scoring import Scored, pooled

_PRIORITY = {"high": "bold red", "medium": "yellow", "low": "cyan"}
_SHOWN = (
    "heart_rate", "pulse_rate", "spo2", "respiration_rate", "bp_systolic", "bp_diastolic", "temperature", "glucose",
    "weight",
)  # fmt: skip
_TITLES = {
    "heart_rate": "heart", "pulse_rate": "pulse", "spo2": "SpO2", "respiration_rate": "breath", "bp_systolic": "sys",
    "bp_diastolic": "dia", "temperature": "temp", "glucose": "glucose", "weight": "weight",
}  # fmt: skip
MOST_PATIENTS = 16


class Board:
    """A live board; use it as a context manager and hand `show` to the demo."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._phase = "starting"
        self._began = time.monotonic()
        self._progress: Sequence[Progress] = ()
        self._alerts = 0
        self._live = Live(self._render(), console=console, refresh_per_second=4, transient=True)
        self.show = Show(self.phase, self.progress)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def phase(self, text: str) -> None:
        """Another phase begins."""
        self._phase = text
        if not self._console.is_terminal:
            self._console.print(f"{time.monotonic() - self._began:6.1f} s  {text} …")
        self._live.update(self._render())

    def progress(self, progress: Sequence[Progress], alerts: int) -> None:
        """How the fleets stand."""
        self._progress, self._alerts = progress, alerts
        self._live.update(self._render())

    def _render(self) -> Panel:
        lines: list[Text | ProgressBar | Table] = [
            Text.assemble((self._phase, "bold"), f"   {time.monotonic() - self._began:.0f} s")
        ]
        if self._progress:
            first = self._progress[0]
            lines.append(ProgressBar(total=self._seconds, completed=min(first.virtual_s, self._seconds), width=60))
            table = Table.grid(padding=(0, 3))
            table.add_row(
                f"[green]{sum(p.connected for p in self._progress)}[/] of {sum(p.devices for p in self._progress)}"
                " devices online",
                f"{max(p.messages for p in self._progress):,} messages",
                f"{max(p.items for p in self._progress):,} items",
                f"{sum(p.pending for p in self._progress):,} without receipt",
                f"[bold red]{self._alerts}[/] alerts" if self._alerts else "no alerts",
            )
            lines.append(table)
        return Panel(Group(*lines), title="Vitalgate demo", border_style="blue", width=min(110, self._console.width))


def summary(console: Console, demo: Demo) -> None:
    """Print what came of it."""
    console.print()
    console.print(_patients(demo))
    console.print(_alerts(demo))
    if demo.scored or demo.simulated:
        console.print(_beats(demo))
    console.print(_ledger(demo))
    console.print(_latency(demo))
    for fault in [*demo.faults, *demo.reckoning.wrong][:10]:
        console.print(f"[red]! {fault}")
    if demo.picture:
        console.print(f"An ECG strip with its beats: [bold]{demo.picture}")
    console.print(f"The devices' own journal: {demo.journal}")
    if demo.good:
        console.print("[bold green]Nothing was lost: every item sent is stored, a duplicate or dead-lettered.")
    else:
        console.print("[bold red]Something was lost or altered, or the ledger does not balance.")


def _short(patient: str) -> str:
    """The patient without the run's prefix; a bare number is a replayed recording's."""
    name = patient.split("-", 2)[-1]
    return f"recording {name}" if name.isdigit() else name


def _patients(demo: Demo) -> Table:
    table = Table(title="Patients: latest values", title_justify="left", header_style="bold")
    table.add_column("patient")
    for metric in _SHOWN:
        table.add_column(_TITLES[metric], justify="right")
    for patient, values in list(demo.latest.items())[:MOST_PATIENTS]:
        table.add_row(_short(patient), *(values.get(metric, "") for metric in _SHOWN))
    if len(demo.latest) > MOST_PATIENTS:
        table.caption = f"and {len(demo.latest) - MOST_PATIENTS} more"
    return table


def _alerts(demo: Demo) -> Table:
    table = Table(title="Alerts that reached the care team", title_justify="left", header_style="bold")
    for name in ("priority", "patient", "what"):
        table.add_column(name)
    order = {"high": 0, "medium": 1, "low": 2}
    for one in sorted(demo.arrived, key=lambda one: (order.get(one.alert.get("priority", ""), 3), one.at_us))[:20]:
        alert = one.alert
        style = _PRIORITY.get(str(alert.get("priority")), "")
        table.add_row(
            Text(str(alert.get("priority")), style), _short(str(alert.get("patient", ""))),
            str(alert.get("text") or alert.get("title")),
        )  # fmt: skip
    if len(demo.arrived) > 20:
        table.caption = f"and {len(demo.arrived) - 20} more"
    return table


def beats_table(scored: Sequence[Scored], title: str) -> Table:
    """Beats scored against a reference, a line each and pooled."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("recording")
    for name in ("beats", "Se", "+P", "missed", "false"):
        table.add_column(name, justify="right")
    table.add_column("offline run")
    for one in scored:
        same = "" if not one.offline else "the same" if not one.differing else f"[red]{one.differing} differ"
        table.add_row(
            one.name, f"{one.found:,}", _share(one.se), _share(one.ppv), "" if one.fn is None else str(one.fn),
            "" if one.fp is None else str(one.fp), same,
        )  # fmt: skip
    return table


def _beats(demo: Demo) -> Table:
    lines = list(demo.scored)
    if len(lines) > 1:
        lines.append(pooled(demo.scored))
    if demo.simulated:
        lines.append(Scored(**{**vars(demo.simulated), "offline": 0}))
    return beats_table(lines, "Beats against the reference (150 ms)")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _ledger(demo: Demo) -> Table:
    found = demo.reckoning
    table = Table(title="Every item accounted for", title_justify="left", header_style="bold")
    for name in ("published", "acked", "stored", "duplicate", "dead-lettered", "lost", "ledger"):
        table.add_column(name, justify="right")
    table.add_row(
        f"{found.published - found.unconfirmed:,}", f"{found.acked:,}", f"{found.stored:,}", f"{found.duplicate:,}",
        f"{found.dead_lettered:,}", f"[{'red' if found.lost else 'green'}]{found.lost:,}",
        "[green]balanced" if demo.balanced else "[red]NOT BALANCED",
    )  # fmt: skip
    table.caption = (
        f"{found.readings:,} readings ({found.versions:,} of them corrections), {found.waveforms:,} waveform blocks"
        f" with {found.samples:,} samples, {found.beats:,} beats, {found.features:,} features,"
        f" {found.alerts:,} alerts; from {demo.patients} patients with {demo.devices} devices of"
        f" {len(found.by_kind)} kinds in {demo.seconds:.0f} s"
    )
    return table


def _latency(demo: Demo) -> Table:
    table = Table(title="Latency, ms", title_justify="left", header_style="bold")
    for name in ("from device to", "p50", "p99", "of"):
        table.add_column(name, justify="left" if name.startswith("from") else "right")
    for name, values in (
        ("committed row", demo.reckoning.device_to_row_ms),
        ("alert of a reading", demo.device_to_alert_ms[0]),
        ("alert of the ECG, from its last packet", demo.device_to_alert_ms[1]),
    ):
        shown = ["–" if (v := percentile(values, share)) is None else f"{v:,.0f}" for share in (0.5, 0.99)]
        table.add_row(name, *shown, f"{len(values):,}")
    return table
