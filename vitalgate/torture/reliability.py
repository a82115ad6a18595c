"""`docs/reliability.md`, made from the tally: what was tried, how often, and what came of it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitalgate.torture.fault import ROWS, Fault, known
from vitalgate.torture.queues import QUEUES
from vitalgate.torture.round import Result
from vitalgate.torture.tally import Tally

_TEXT = Path(__file__).with_name("reliability.md")


def write(path: Path, tally: Tally) -> None:
    """Write the page."""
    path.write_text(page(tally.rounds(), tally.soak()), encoding="utf-8")


def page(rounds: Sequence[Result], soak: dict[str, Any] | None) -> str:
    """The page, as Markdown."""
    faults = known()
    text = _TEXT.read_text(encoding="utf-8")
    return (
        text.replace("{summary}", _summary(rounds))
        .replace("{table}", _table(rounds, faults))
        .replace("{faults}", _each(rounds, faults))
        .replace("{bad}", _bad(rounds))
        .replace("{queues}", _queues())
        .replace("{soak}", _soak(soak))
    )


def machine() -> str:
    """In general terms."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB of memory, {platform.system()}"


def _summary(rounds: Sequence[Result]) -> str:
    if not rounds:
        return "No rounds have been run yet."
    good = sum(one.good for one in rounds)
    seeds = ", ".join(str(seed) for seed in sorted({one.seed for one in rounds}))
    took = sum(one.seconds for one in rounds) / len(rounds)
    loads = [one.load for one in rounds if one.load is not None]
    busy = f" Load averages of {min(loads):g} to {max(loads):g} (of {len(loads)} rounds)." if loads else ""
    return (
        f"{len(rounds)} rounds, {good} of them without fault, {sum(one.sent for one in rounds):,} messages;"
        f" seed {seeds}; {min(one.began for one in rounds)[:10]} to {max(one.began for one in rounds)[:10]};"
        f" {machine()}; {took:.0f} s a round in the mean, other work on the machine included.{busy}"
    )


def _table(rounds: Sequence[Result], faults: dict[str, Fault]) -> str:
    lines = [
        "| fault | must hold | rounds | not good | lost | duplicates | differences | back after (s): median; worst |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row, (what, must) in ROWS.items():
        own = [one for one in rounds if any(faults[name].row == row for name in one.faults if name in faults)]
        lines.append(f"| {what} | {must} | {_figures(own)} |")
    return "\n".join(lines)


def _each(rounds: Sequence[Result], faults: dict[str, Fault]) -> str:
    lines = [
        "| name | what is done | rounds | not good | lost | duplicates | differences | back after (s) |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, fault in faults.items():
        own = [one for one in rounds if name in one.faults]
        lines.append(f"| `{name}` | {fault.title} | {_figures(own)} |")
    return "\n".join(lines)


def _figures(own: Sequence[Result]) -> str:
    resumed = sorted(one.resume_s for one in own if one.resume_s is not None)
    back = f"{resumed[len(resumed) // 2]:.1f}; {resumed[-1]:.1f}" if resumed else ""
    cells = [
        len(own), sum(not one.good for one in own), sum(one.lost for one in own), sum(one.duplicates for one in own),
        sum(one.differences for one in own), back,
    ]  # fmt: skip
    return " | ".join(str(cell) for cell in cells) if own else "0 | | | | | "


def _bad(rounds: Sequence[Result]) -> str:
    lines = []
    for one in rounds:
        if not one.good:
            again = f"--seed {one.seed} --faults {'+'.join(one.faults)} --first {one.number} --rounds 1"
            lines.append(f"- Round {one.number}: {'; '.join(one.wrong[:2])}. Again by `vitalgate torture {again}`")
    plain = sum(one.plain_lost for one in rounds)
    lines = lines or ["None."]
    lines.append(f"\nItems of plain QoS 1 devices lost with the broker's memory, over all these rounds: {plain}.")
    return "\n".join(lines)


def _queues() -> str:
    lines = ["| what waits | bound | at the bound | filled by |", "|---|---|---|---|"]
    lines += [f"| {each.where} | {each.bound} | {each.at_the_bound} | `{each.test}` |" for each in QUEUES]
    return "\n".join(lines).replace("`fault `", "fault `").replace("``", "`")


def _soak(soak: dict[str, Any] | None) -> str:
    if soak is None:
        return "No soak has been tallied here yet: `vitalgate torture --soak 30` runs one."
    lines = [
        f"{soak['minutes']:g} minutes on {soak['machine']}, {soak['date']}: {soak['asked']:,} messages/s asked,"
        f" {soak['sent'] / 60 / soak['minutes']:,.0f} sent; lost {soak['lost']}.", "",
        "| process | memory at the end (MiB) | slope after warm-up (MiB/h) |", "|---|--:|--:|",
    ]  # fmt: skip
    lines += [f"| {name} | {end:.0f} | {slope:+.1f} |" for name, (end, slope) in soak["processes"].items()]
    return "\n".join(lines)


def document(rounds: Sequence[Result]) -> str:
    """All rounds, as JSON."""
    return json.dumps([one.document() for one in rounds], indent=1)
