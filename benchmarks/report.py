"""The figures as text, and written into the documentation with the machine and the date."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

BEGIN, END = "<!-- figures: written by `python -m benchmarks --write` -->", "<!-- end of figures -->"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_text(found: Mapping[str, Any]) -> str:
    """One line."""
    return (
        f"{found['taken_at']}: {found['cores']} cores ({found['processor']}), {found['memory_gib']} GiB, "
        f"{found['system']}, Python {found['python']}; load before the run {found['load_before'][0]}"
    )


def write(path: Path, found: Mapping[str, Any], sections: Mapping[str, list[str]], order: Sequence[str]) -> None:
    """Put sections into a document, by their titles; those that were not measured now stay, with their own date.

    Parameters
    ----------
    found
        The machine, and when (`machine`).
    order
        All titles.

    Raises
    ------
    ValueError
        When the document has no place for figures.
    """
    document = path.read_text(encoding="utf-8")
    if BEGIN not in document or END not in document:
        raise ValueError(f"{path} has no place for figures: it needs a line {BEGIN!r} and a line {END!r}")
    before, _, rest = document.partition(BEGIN)
    there, _, after = rest.partition(END)
    blocks = {text.partition("\n")[0]: text.rstrip() for text in there.split("\n### ")[1:]}
    for title, lines in sections.items():
        blocks[title] = "\n".join([title, "", machine_text(found), "", "```text", *lines, "```"])
    body = "\n\n".join(f"### {blocks[title]}" for title in order if title in blocks)
    path.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")
