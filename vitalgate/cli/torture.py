"""Kill, cut, fill and starve a running system of its own, and prove that nothing was lost or altered."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitalgate.cli._context import Failure, Misuse, data_directory, json_option, print_json

if TYPE_CHECKING:
    from vitalgate.torture.tally import Tally

_AGAIN = "vitalgate torture --seed {seed} --faults {faults} --first {number} --rounds 1"


@click.command(
    epilog="Examples: vitalgate torture --rounds 5; vitalgate torture --faults kill-worker,database --rounds 20;"
    " vitalgate torture --rounds 100 --resume --report docs/reliability.md. What is compared, and what no software can"
    " promise: docs/reliability.md."
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(0, 10_000), metavar="N", help="How many.")
@click.option("--seed", default=1, show_default=True, help="Decides what is sent, which faults strike, and when.")
@click.option("--faults", metavar="LIST", help="Only these (names or rows of --list, comma separated); all otherwise.")
@click.option("--first", type=click.IntRange(1), metavar="N", help="Number of the first round; 1, or after the tally.")
@click.option("--within", type=click.FloatRange(0.1), metavar="MINUTES", help="Begin no round after this long.")
@click.option("--resume", is_flag=True, help="Go on after the rounds of the tally, instead of beginning anew.")
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Where tally and reference are kept; `torture` in the data directory otherwise.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the table of all rounds of the tally into this Markdown file.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep logs, journals and data of a round that was not good.")
@click.option("--soak", type=click.FloatRange(0.5), metavar="MINUTES", help="Instead of rounds: load, and memory.")
@click.option("--rate", default=2000, show_default=True, type=click.IntRange(1), help="Messages a second of the soak.")
@click.option("--list", "only_list", is_flag=True, help="Explain every fault and end.")
@json_option
def command(
    rounds: int, seed: int, faults: str | None, first: int | None, within: float | None, resume: bool,
    state: Path | None,
    report: Path | None, keep: bool, soak: float | None, rate: int, only_list: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run rounds of faults on a system of its own: real broker, Kafka and database, started for it and removed.

    In each round simulated devices (with outboxes, and plain QoS 1 ones) send for 25 seconds; faults strike at random
    moments of the seed; then all must be as in an undisturbed round: the same readings and versions, beats, features
    and physiological alerts, the ledger balanced, the audit chain unbroken. Exit status 1 when one was not.
    """
    from vitalgate.cli._enrol import SystemRegistry
    from vitalgate.devices import catalogue
    from vitalgate.local.errors import StackError
    from vitalgate.torture import fault, reliability
    from vitalgate.torture.run import Run
    from vitalgate.torture.tally import Tally

    known = fault.known()
    if only_list:
        if as_json:
            print_json(
                [{"name": n, "row": f.row, "title": f.title, "explains": f.explanation} for n, f in known.items()]
            )
            return 0
        row = ""
        for name, one in known.items():
            if one.row != row:
                row = one.row
                click.echo(f"\n{row}: {fault.ROWS[row][0].replace('`', '')}\n  must hold: {fault.ROWS[row][1]}")
            click.echo(f"\n  {name}")
            for line in one.explanation.splitlines():
                click.echo(f"      {line}".rstrip())
        return 0
    try:
        wanted = (
            fault.choose([name.strip() for name in faults.split(",")]) if faults else [(one,) for one in known.values()]
        )
    except fault.UnknownFault as error:
        raise Misuse(f"--faults: {error}; --list explains them") from error
    tally = Tally(state or data_directory() / "torture")
    if soak is not None:
        return _soak(tally, soak, rate, report, as_json)
    before = tally.rounds()
    if not resume and rounds:
        tally.clear()
        before = []
    start = first or max((one.number for one in before), default=0) + 1

    def say(text: str) -> None:
        click.echo(text, err=as_json)

    run = Run(tally, seed, SystemRegistry, catalogue.load(), say, keep, within_s=within * 60 if within else None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the system would be left behind
    try:
        results = run.rounds(start, rounds, wanted) if rounds else []
    except StackError as error:
        raise Failure(str(error)) from error
    if report is not None:
        reliability.write(report, tally)
    bad = [one for one in results if not one.good]
    if as_json:
        print_json(
            {
                "rounds": len(results), "good": len(results) - len(bad), "lost": sum(one.lost for one in results),
                "duplicates": sum(one.duplicates for one in results),
                "differences": sum(one.differences for one in results), "left_out": run.left_out,
                "results": [one.document() for one in results],
            }
        )  # fmt: skip
    else:
        click.echo(f"{len(results)} rounds, {len(bad)} not good; {len(tally.rounds())} in the tally of {tally.folder}")
        for result in bad:
            again = _AGAIN.format(seed=result.seed, faults="+".join(result.faults), number=result.number)
            click.echo(f"  round {result.number}: again by `{again}`")
    return 1 if bad else 0


def _soak(tally: Tally, minutes: float, rate: int, report: Path | None, as_json: bool) -> int:
    from vitalgate.cli._enrol import SystemRegistry
    from vitalgate.local.errors import StackError
    from vitalgate.torture import reliability
    from vitalgate.torture.soak import soak

    try:
        found = soak(minutes, rate, SystemRegistry, lambda text: click.echo(text, err=as_json))
    except StackError as error:
        raise Failure(str(error)) from error
    tally.keep_soak(found.document())
    if report is not None:
        reliability.write(report, tally)
    if as_json:
        print_json(found.document())
    else:
        click.echo(f"{found.sent:,} messages sent ({found.sent / 60 / minutes:,.0f}/s), {found.lost} lost")
        for name, (end, rise) in sorted(found.processes.items()):
            click.echo(f"  {name:<12} {end:7.1f} MiB at the end, {rise:+8.2f} MiB/h after warm-up")
        for name, times in found.restarts.items():
            click.echo(f"  ! {name} was started again {times} times")
    return 1 if found.lost or found.restarts else 0
