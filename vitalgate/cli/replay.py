"""Send ECG recordings (WFDB) as devices would, and score the beats that come out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from vitalgate.cli._context import Failure, Misuse, data_directory, json_option, print_json, settings


@click.command(epilog="Example: vitalgate replay ../shared/data/mitdb --speed 60 --score")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(1), metavar="X", help="Recorded seconds in one."
)
@click.option(
    "--score", "do_score", is_flag=True, help="Score the beats against .atr and against the same detector offline."
)
@click.option("--record", "records", multiple=True, metavar="NAME", help="Only this recording; may be repeated.")
@click.option("--seconds", type=click.FloatRange(1), metavar="S", help="Only the first seconds of each.")
@click.option(
    "--packet", default=10.0, show_default=True, type=click.FloatRange(0.1, 60), metavar="S",
    help="Seconds in a packet.",
)  # fmt: skip
@click.option("--team", default="care", show_default=True, help="Care team of the patients made for it.")
@json_option
def command(
    directory: Path, speed: float, do_score: bool, records: tuple[str, ...], seconds: float | None, packet: float,
    team: str, as_json: bool,
) -> int:  # fmt: skip
    """Stream every recording of DIRECTORY (.dat in formats 212 and 16, .mat) through the whole system.

    A patient and a device are registered for each; packets go out as an ECG device would send them, all recordings at
    once. With --score the beats in the database are compared with the reference annotations (150 ms, one to one,
    ventricular flutter left out) and with what the same detector finds offline: exit status 1 when those differ.
    """
    from rich.console import Console

    from vitalgate.cli._enrol import SystemRegistry
    from vitalgate.cli._signal import detect, match
    from vitalgate.config.transport import conninfo, context
    from vitalgate.devices import catalogue
    from vitalgate.simulators.cast import new_prefix
    from vitalgate.simulators.clock import VirtualClock
    from vitalgate.simulators.display import beats_table
    from vitalgate.simulators.fleet import Progress
    from vitalgate.simulators.journal import Journal
    from vitalgate.simulators.quiet import wait_for_analysis, wait_for_rows
    from vitalgate.simulators.reckoning import reckon
    from vitalgate.simulators.recordings import RecordingError, find, read
    from vitalgate.simulators.replay import assemble_replay, members_of, parts_of, seconds_of
    from vitalgate.simulators.scoring import pooled, score

    kinds = catalogue.load()
    prefix = new_prefix("replay")
    try:
        paths = [path for path in find(directory) if not records or path.name in records]
        if missing := set(records) - {path.name for path in paths}:
            raise Misuse(f"{directory} has no recording {', '.join(sorted(missing))}")
        parts = parts_of([read(path, seconds) for path in paths], kinds, prefix=prefix, team=team, packet_s=packet)
    except RecordingError as error:
        raise Failure(str(error)) from error
    system = settings().settings
    longest = seconds_of(parts)
    passwords = SystemRegistry(system).enrol(members_of(parts), time.time() - longest - 60)
    path = data_directory() / "journals" / f"{prefix}.sqlite"
    book = Journal(path)
    clock = VirtualClock.for_run(longest, speed, time.time() + 1)
    fleet = assemble_replay(
        parts,
        passwords,
        clock,
        book,
        kinds,
        host=system.mqtt.host,
        port=system.mqtt.port,
        tls=context(system.mqtt, "mqtt"),
    )
    console = Console(stderr=as_json)
    console.print(
        f"{len(parts)} recordings, {sum(part.recording.seconds for part in parts) / 3600:.1f} h of ECG,"
        f" in {longest / speed:.0f} s. Journal: {path}"
    )
    for part in parts:
        if part.left_out:
            console.print(f"  {part.recording.name}: no device has the leads {', '.join(part.left_out)}; left out")
    last = 0.0

    def watch(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 5:
            last = time.monotonic()
            console.print(
                f"  {progress.virtual_s:6.0f} s  {progress.messages:,} packets, {progress.pending:,} without receipt,"
                f" {progress.behind_s:.1f} s behind"
            )

    began = time.monotonic()
    receipted = asyncio.run(fleet.run(watch, drain_s=600))
    took = time.monotonic() - began
    book.close()
    dsn, schema = conninfo(system.database), system.database.db_schema
    lost = wait_for_rows(path, dsn, schema, 120)
    found = reckon(path, dsn, schema)
    document = {
        "journal": str(path), "recordings": len(parts), "seconds": round(took, 1), "receipted": receipted,
        "published": found.published, "stored": found.stored, "samples": found.samples, "lost": lost,
        "faults": found.wrong,
    }  # fmt: skip
    console.print(f"  {found.samples:,} samples in {took:.0f} s; {found.stored:,} blocks stored, {lost} lost")
    for fault in found.wrong[:5]:
        console.print(f"[red]! {fault}")
    good = receipted and not lost and not found.wrong
    if do_score:
        wait_for_analysis([path], dsn, schema, still_s=system.analysis.idle_s + 5, patience_s=600)
        scored = score(parts, dsn, schema, detect, match)
        gross = pooled(scored)
        good = good and not gross.differing
        console.print(beats_table([*scored, gross], f"{directory.name}: beats against the reference"))
        document["scores"] = [{**vars(one), "se": one.se, "ppv": one.ppv} for one in [*scored, gross]]
        document["same_as_offline"] = gross.differing == 0
    if as_json:
        print_json(document)
    if not good:
        console.print("[red]Something was lost, or the database's beats are not those of the detector run offline.")
    return 0 if good else 1
