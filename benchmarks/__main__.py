"""`make bench`, or `python -m benchmarks [SECTION ...]`: figures of this machine, in one run."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks import api, ecg, latency, live, report, rest, signal_speed, start, throughput
from benchmarks import bed as beds
from vitalgate.local.errors import StackError

Text = Callable[[dict[str, Any]], list[str]]
#: In the order in which they run: `start` stops the stack.
SECTIONS: dict[str, tuple[str, Text]] = {
    "signal": ("Beat detectors", signal_speed.text),
    "latency": ("Latency at 300 messages/s", latency.text),
    "throughput": ("Throughput to committed rows", throughput.text),
    "ecg": ("ECG in real time", ecg.text),
    "rest": ("ECG at rest", rest.text),
    "api": ("Reads over REST", api.text),
    "live": ("Live queries", live.text),
    "start": ("Start", start.text),
}


@click.command(epilog="Example: python -m benchmarks throughput latency --seconds 10")
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1, 3600), help="About this, each.")
@click.option(
    "--scale", default=1.0, show_default=True, type=click.FloatRange(0.001, 1), help="Fewer patients and messages."
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the stack, as `up --set`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--write", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Also put the figures into this document; sections that are not measured stay there.",
)  # fmt: skip
def main(
    sections: tuple[str, ...], seconds: float, scale: float, settings: tuple[str, ...], as_json: bool,
    write: Path | None,
) -> None:  # fmt: skip
    """Measure SECTIONS (all when none is named) on a stack of its own, which is removed afterwards."""
    # So that the stack is stopped and its folder removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = [name for name in SECTIONS if name in (sections or SECTIONS)]
    machine = report.machine()
    if not as_json:
        click.echo(report.machine_text(machine))
    found: dict[str, Any] = {}
    bad = False

    def done(name: str, work: Callable[[], dict[str, Any]]) -> None:
        nonlocal bad
        try:
            found[name] = work()
        except (beds.BenchError, StackError) as error:
            bad = True
            found[name] = {"failed": str(error)}
        bad |= found[name].get("balanced") is False
        if not as_json:
            click.echo("\n".join([f"\n== {SECTIONS[name][0]}", *_lines(name, found[name])]))
        if write is not None:  # at once: whatever happens to those that follow
            titles = [title for title, _ in SECTIONS.values()]
            report.write(write, machine, {SECTIONS[name][0]: _lines(name, found[name])}, titles)

    if "signal" in chosen:
        done("signal", lambda: signal_speed.run(seconds, scale, _tell))
    if set(chosen) - {"signal"}:
        with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as folder:
            Path(folder).chmod(0o711)  # PostgreSQL may run as another user
            overrides = api.LIMITS | dict(pair.partition("=")[::2] for pair in settings)
            with beds.made(Path(folder) / "data", overrides, _tell) as (bed, took):
                before = beds.restarts(bed.stack)
                if "latency" in chosen:
                    done("latency", lambda: latency.run(bed, seconds, scale, _tell))
                if "throughput" in chosen:
                    done("throughput", lambda: throughput.run(bed, seconds, scale, _tell))
                if "ecg" in chosen:
                    done("ecg", lambda: ecg.run(bed, seconds, scale, _tell))
                if "rest" in chosen:
                    done("rest", lambda: rest.run(bed, seconds, scale, _tell))
                if "api" in chosen:
                    done("api", lambda: api.run(bed, seconds, scale, _tell))
                restarted = {k: n - before.get(k, 0) for k, n in beds.restarts(bed.stack).items()}
                found["restarts"] = {name: count for name, count in restarted.items() if count}
                if "live" in chosen:  # it kills the API on purpose
                    done("live", lambda: live.run(bed, seconds, scale, _tell))
                if "start" in chosen:
                    done("start", lambda: start.run(bed, took, _tell))
    bad |= bool(found.get("restarts"))
    if found.get("restarts") and not as_json:
        click.echo(f"\nprocesses that ended unasked and were started again: {found['restarts']}")
    if as_json:
        click.echo(json.dumps({"machine": machine, **found}, indent=2))
    sys.exit(1 if bad else 0)


def _lines(name: str, found: dict[str, Any]) -> list[str]:
    return [f"failed: {found['failed']}"] if "failed" in found else SECTIONS[name][1](found)


def _tell(text: str) -> None:
    click.echo(f"… {text}", err=True)


if __name__ == "__main__":
    main()
