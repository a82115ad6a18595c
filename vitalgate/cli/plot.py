"""`vitalgate plot`: an ECG strip on ECG paper, beats and rhythm marked."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from vitalgate.cli._context import Failure, Misuse, settings
from vitalgate.cli._reading import tell_reading
from vitalgate.cli._times import TIME


@click.command()
@click.argument("patient")
@click.option("--at", type=TIME, help="Beginning, RFC 3339 (2026-11-21T10:00:00Z); the latest ECG without it.")
@click.option("--seconds", type=click.FloatRange(1, 300), default=10.0, show_default=True, help="Length of the strip.")
@click.option("--channel", "channels", multiple=True, help="Lead to draw, such as ecg.II; again for more leads.")
@click.option(
    "--filter", "choice", type=click.Choice(["monitor", "none"]), default="monitor", show_default=True,
    help="monitor: 0.5-40 Hz, zero phase. none: as recorded. It is printed on the strip.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE",
    help="Where to: .png, .pdf or .svg.",
)  # fmt: skip
def command(
    patient: str, at: datetime | None, seconds: float, channels: tuple[str, ...], choice: str, output: Path
) -> None:
    """Draw PATIENT's ECG at 25 mm/s and 10 mm/mV, with a calibration pulse, beats, RR intervals and rhythm events.

    A PDF printed without scaling can be measured with a ruler. Longer strips go on over rows of ten seconds. That it
    was read is audited.

    \b
    vitalgate plot p-0001 -o latest.png
    vitalgate plot p-0001 --at 2026-11-21T10:00:00Z --seconds 30 -o strip.pdf
    """
    try:
        from vitalgate.report.paper import SUFFIXES, draw
        from vitalgate.report.strip import NothingToDraw, patient_strip
    except ImportError as error:
        raise Failure(f"drawing needs matplotlib ({error}); install vitalgate[export]") from error
    from vitalgate.storage.errors import StorageError

    if output.suffix.lower() not in SUFFIXES:
        raise Misuse(f"{output} cannot be written: the name must end in {', '.join(SUFFIXES)}")
    tell_reading("ecg_plotted", patient, at, seconds, [output])
    try:
        strip = patient_strip(
            settings().settings.database, patient, at, seconds, channels=channels,
            choice="none" if choice == "none" else "monitor",
        )  # fmt: skip
        draw(strip, output)
    except (NothingToDraw, StorageError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}") from error
    click.echo(f"{output}: {len(strip.beats)} beats from {strip.start.isoformat(timespec='milliseconds')}")
