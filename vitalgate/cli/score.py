"""`vitalgate score`: how good beats, classes, rhythms and intervals are on an annotated database."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print key,value lines.")
@click.option("--leads", default=None, help="The lead to take, by name or number (default: the first; LUDB: ii).")
@click.option("--detector", "detector_name", default="vitalgate", show_default=True, help="Whose beats to score.")
@click.option("--stream", type=click.IntRange(min=1), help="Give the signal in packets of so many samples.")
@click.option("--list-detectors", is_flag=True, help="Only name the detectors that are installed.")
def command(
    folder: Path,
    as_json: bool,
    as_csv: bool,
    leads: str | None,
    detector_name: str,
    stream: int | None,
    list_detectors: bool,
) -> None:
    """Score FOLDER: what it holds is recognised.

    MIT-BIH and NSTDB (WFDB records with .atr), LUDB (12 leads, annotated each), AFDB as text (qrs*.txt, atr*.txt),
    CinC 2017 (REFERENCE.csv). Matching is ANSI/AAMI EC57's: 150 ms, one to one, flutter left out. Shares are percent.
    """
    try:
        import wfdb  # noqa: F401
    except ImportError as error:
        raise Failure(f"{error}: reading records needs vitalgate[simulators]") from error
    from vitalgate.scoring import detectors, report
    from vitalgate.scoring.databases import DatabaseError

    if list_detectors:
        click.echo("\n".join(detectors.names()))
        return
    try:
        document = report.score_folder(folder, leads, detector_name, stream)
    except (DatabaseError, detectors.UnknownDetector) as error:
        raise Misuse(str(error)) from error
    if as_json:
        print_json(document)
    elif as_csv:
        csv.writer(sys.stdout).writerows([("key", "value"), *report.rows(document)])
    else:
        click.echo(report.text(document))
