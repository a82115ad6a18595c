"""Half a minute of the whole system with simulated patients and a real ECG, and what came of it."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitalgate.cli._context import Misuse, data_directory, json_option, options, print_json

if TYPE_CHECKING:
    from vitalgate.config.settings import Settings
    from vitalgate.local.stack import Stack
    from vitalgate.simulators.demo import Demo
    from vitalgate.simulators.recordings import Recording

_RECORDINGS = 4
_RECORDED_S = 300.0
#: The demo ends when all ECGs are analysed to their end; a stack of its own need not wait ten seconds for more.
_IMPATIENT = {"analysis.idle_s": "4"}


@click.command(epilog="Example: vitalgate demo --patients 50 --seconds 60 --json")
@click.option("--patients", default=8, show_default=True, type=click.IntRange(1, 500), metavar="N")
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(12, 3600), metavar="S")
@click.option(
    "--replay", "directory", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
    help="WFDB recordings; otherwise those of VITALGATE_ECG_DATA or ../shared/data/mitdb, if they are there.",
)  # fmt: skip
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same people.")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to draw the ECG strip."
)
@click.option("--tls", is_flag=True, help="Encrypt every connection of the system that it starts.")
@click.option(
    "--broker", type=click.Choice(["mosquitto", "rabbitmq"]), help="The MQTT broker to start (setting mqtt.broker)."
)
@json_option
def command(
    patients: int,
    seconds: float,
    directory: Path | None,
    seed: int,
    picture: Path | None,
    broker: str | None,
    tls: bool,
    as_json: bool,
) -> int:
    """Start the system on this machine (unless it runs), send, wait until all is quiet, and reckon.

    Every device has its own credentials and connection; every number is counted from the devices' own journal joined
    with the database. Some patients fall ill, some devices misbehave. Exit status 0 only when nothing was lost and the
    ledger balances.
    """
    from rich.console import Console

    from vitalgate.cli._demo_people import show_people
    from vitalgate.local.stack import Stack
    from vitalgate.simulators.display import Board, summary

    console = Console(stderr=as_json)
    given = options()
    if broker is not None:
        given.flags["mqtt.broker"] = broker
    data = data_directory()
    running = _is_running(data)
    if tls and running:
        raise Misuse("--tls is for a system that the demo starts, and one runs already; `vitalgate down` stops it")
    if tls:
        given.flags["local.tls"] = "true"
    flags = given.flags if running else {**_IMPATIENT, **given.flags}
    stack = Stack(data, flags, config=given.config)
    try:
        with Board(console, seconds) as board, ThreadPoolExecutor(1) as pool:
            reading = pool.submit(_recordings, directory, seconds)
            if not running:
                board.phase("starting broker, Kafka, database and workers")
                stack.start(lambda name, took: board.phase(f"{name} ready after {took:.1f} s"))
            demo = _run(stack, board, patients, seconds, reading.result(), seed)
            board.phase("drawing")
            demo.picture = _draw(stack.settings.settings, demo, picture or data / "demo.png")
            board.phase("a patient and a clinician use the API")
            shown = show_people(stack.settings.settings, list(demo.latest))
        if as_json:
            print_json({**demo.document(), "people": shown.document()})
        else:
            summary(console, demo)
            for line in shown.lines:
                console.print(f"[bold]API[/]: {line}", highlight=False)
            for fault in shown.faults:
                console.print(f"[red]! {fault}", highlight=False)
    finally:
        if not running:
            console.print("stopping …") if not as_json else None
            stack.stop()
    return 0 if demo.good and not shown.faults else 1


def _is_running(data: Path) -> bool:
    from vitalgate.local import control

    try:
        control.status(data)
    except control.NotRunningError:
        return False
    return True


def _run(stack: Stack, board: object, patients: int, seconds: float, recordings: list[Recording], seed: int) -> Demo:
    from vitalgate.cli._enrol import SystemRegistry
    from vitalgate.cli._signal import detect, match
    from vitalgate.config.loading import read_secret
    from vitalgate.config.transport import conninfo, context
    from vitalgate.devices import catalogue
    from vitalgate.simulators.demo import System, run_demo
    from vitalgate.simulators.display import Board
    from vitalgate.storage import ledger

    assert isinstance(board, Board)
    found = stack.settings.settings
    system = System(
        found.mqtt.host, found.mqtt.port, conninfo(found.database), found.database.db_schema,
        (found.mqtt.username, read_secret(found.mqtt.password_file, "gateway's password")),
        SystemRegistry(found), catalogue.load(), lambda: ledger.read(found.database), detect, match,
        found.analysis.idle_s + 3, context(found.mqtt, "mqtt"),
    )  # fmt: skip
    journal = stack.data / "journals" / f"demo-{time.strftime('%Y%m%d-%H%M%S')}.sqlite"
    return run_demo(
        system, patients=patients, seconds=seconds, recordings=recordings, seed=seed, journal=journal, show=board.show
    )


def _recordings(directory: Path | None, seconds: float) -> list[Recording]:
    """The first few recordings of the directory, or of a known one; none is fine. Imports what the demo needs, too."""
    import vitalgate.cli._enrol  # noqa: F401 - while the stack starts
    from vitalgate.simulators.demo import REPLAY_SPEED
    from vitalgate.simulators.recordings import find, read

    if directory is None:
        named = os.environ.get("VITALGATE_ECG_DATA")
        places = [Path(named) / "mitdb", Path(named)] if named else []
        for place in (*places, Path("../shared/data/mitdb")):
            if any(place.glob("*.hea")):
                directory = place
                break
    if directory is None:
        return []
    return [read(path, min(_RECORDED_S, seconds * REPLAY_SPEED)) for path in find(directory)[:_RECORDINGS]]


def _draw(found: Settings, demo: Demo, path: Path) -> Path | None:
    """A picture of a strip with its beats."""
    if demo.strip is None:
        return None
    from vitalgate.report.strip import draw_patient_strip

    patient, start, seconds = demo.strip
    return draw_patient_strip(found.database, patient, start, seconds, path)
