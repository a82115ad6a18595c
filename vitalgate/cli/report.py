"""`vitalgate report`: a page on an ECG: measurements, rhythm, signal quality and the strip on ECG paper."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings
from vitalgate.cli._reading import tell_reading
from vitalgate.cli._times import TIME


@click.group()
def command() -> None:
    """Reports for people to read."""


@command.command()
@click.argument("source", metavar="FILE|PATIENT")
@click.option(
    "-o", "--output", "outputs", type=click.Path(path_type=Path, dir_okay=False), multiple=True, metavar="FILE",
    help="Where to: .pdf, .png or .svg for the page, .json for its figures; again for more than one.",
)  # fmt: skip
@click.option("--at", type=TIME, help="Beginning, RFC 3339; of a patient the latest ECG without it.")
@click.option("--skip", type=click.FloatRange(min=0), help="Of a FILE: seconds to leave out at the beginning.")
@click.option(
    "--seconds", type=click.FloatRange(2, 300),
    help="Length of the strip: 10 for a PATIENT, all of a FILE (five minutes at most) without it.",
)  # fmt: skip
@click.option(
    "--channel", "channels", multiple=True, help="Lead, such as II or ecg.II; again for more; all without it."
)
@click.option(
    "--filter", "choice", type=click.Choice(["monitor", "none"]), default="monitor", show_default=True,
    help="Of the trace alone, printed on it: monitor is 0.5-40 Hz, zero phase; none is as recorded.",
)  # fmt: skip
@json_option
def ecg(
    source: str, outputs: tuple[Path, ...], at: datetime | None, skip: float | None, seconds: float | None,
    channels: tuple[str, ...], choice: str, as_json: bool,
) -> None:  # fmt: skip
    """Write a one-page report on a strip or a 12-lead ECG.

    FILE is a WFDB record (of PhysioNet, or of `vitalgate export`); anything else is a PATIENT in the database. Reading
    a patient's ECG is audited.

    \b
    vitalgate report ecg rec/100 -o ecg.pdf
    vitalgate report ecg p-0001 --at 2026-11-21T10:00:00Z --seconds 30 -o ecg.pdf -o ecg.json
    """
    try:
        from vitalgate.report.ecg import NothingToReport, document, examine
        from vitalgate.report.sheet import SUFFIXES, draw_sheet
        from vitalgate.report.sources import from_patient, from_record, record_path
        from vitalgate.report.strip import NothingToDraw
    except ImportError as error:
        raise Failure(f"a report needs matplotlib ({error}); install vitalgate[export]") from error
    import json

    from vitalgate.storage.errors import StorageError

    for output in outputs:
        if output.suffix.lower() not in (*SUFFIXES, ".json"):
            raise Misuse(f"{output} cannot be written: the name must end in {', '.join(SUFFIXES)} or .json")
    if not outputs and not as_json:
        raise Misuse("say where to with -o FILE, or print it with --json")
    path = record_path(source)
    if path is None and skip is not None:
        raise Misuse("--skip is for a FILE; of a PATIENT say --at")
    try:
        if path is not None:
            read = from_record(path, skip or 0.0, seconds, channels, at)
        else:
            named = tuple(name if "." in name else f"ecg.{name}" for name in channels)
            length = seconds or 10.0
            tell_reading("ecg_reported", source, at, length, outputs)
            read = from_patient(settings().settings.database, source, at, length, named)
        found = examine(read)
    except (NothingToReport, NothingToDraw, StorageError) as error:
        raise Failure(str(error)) from error
    for output in outputs:
        try:
            if output.suffix.lower() == ".json":
                output.write_text(json.dumps(document(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            else:
                draw_sheet(found, output, "none" if choice == "none" else "monitor")
        except OSError as error:
            raise Failure(f"{output} cannot be written: {error.strerror}") from error
        if not as_json:
            click.echo(f"{output}: {found.statement.text}; {len(found.beats)} beats, {len(found.ecg.leads)} leads")
    if as_json:
        print_json(document(found))
