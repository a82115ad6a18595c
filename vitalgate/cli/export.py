"""Write data into files: views as Parquet, waveforms as WFDB records."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings
from vitalgate.cli._times import TIME


@click.group()
def command() -> None:
    """Write data into files: views as Parquet, waveforms as WFDB records. Every export is audited."""


_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@command.command()
@_folder
@click.option("--from", "start", type=TIME, help="Rows from this time on.")
@click.option("--to", "stop", type=TIME, help="Rows before this time.")
@click.option("--patient", help="Only this patient's rows.")
@click.option("--view", "views", multiple=True, help="A view; may be repeated [default: the clinical ones].")
@json_option
def parquet(
    folder: Path, start: datetime | None, stop: datetime | None, patient: str | None, views: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Write FOLDER/VIEW.parquet for each view, all from one moment.

    docs/data-dictionary.md describes every view and column.
    """
    try:
        from vitalgate.storage import export_parquet
    except ImportError as error:
        raise Failure(f"Parquet needs pyarrow ({error}); install vitalgate[export]") from error
    from vitalgate.storage.errors import StorageError

    chosen = views or export_parquet.DEFAULT
    _tell("parquet", folder, start, stop, patient, {"views": list(chosen)})
    try:
        written = list(
            export_parquet.export(
                settings().settings.database, folder, start=start, stop=stop, patient=patient, views=chosen
            )
        )
    except (StorageError, OSError) as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json([{"path": str(file.path), "rows": file.rows} for file in written])
    else:
        for file in written:
            click.echo(f"{file.path}: {file.rows:,} rows")


@command.command("wfdb")
@_folder
@click.option("--patient", required=True, help="Whose waveforms.")
@click.option("--from", "start", type=TIME, required=True, help="From this time on.")
@click.option("--to", "stop", type=TIME, required=True, help="Before this time.")
@click.option(
    "--format", "fmt", type=click.Choice(["auto", "16", "212", "32"]), default="auto", show_default=True,
    help="WFDB storage format; auto: 16 where the samples fit, else 32.",
)  # fmt: skip
@json_option
def wfdb_(folder: Path, patient: str, start: datetime, stop: datetime, fmt: str, as_json: bool) -> None:
    """Write a patient's waveforms as WFDB records, with their beats as .atr."""
    try:
        from vitalgate.storage import export_wfdb
    except ImportError as error:
        raise Failure(f"WFDB needs the package wfdb ({error}); install vitalgate[export]") from error
    from vitalgate.storage.errors import StorageError

    if stop <= start:
        raise Misuse(f"--to {stop.isoformat()} is not after --from {start.isoformat()}")
    _tell("wfdb", folder, start, stop, patient, {})
    try:
        written = list(
            export_wfdb.export(
                settings().settings.database, folder, patient, start, stop,
                fmt=fmt,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    except (StorageError, OSError) as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(
            [{"path": str(r.path), "signals": r.signals, "samples": r.samples, "beats": r.beats} for r in written]
        )
        return
    for record in written:
        click.echo(f"{record.path}: {record.signals} signals, {record.samples:,} samples, {record.beats:,} beats")
    if not written:
        click.echo(f"Patient {patient} has no waveforms in this stretch.")


def _tell(
    what: str, folder: Path, start: datetime | None, stop: datetime | None, patient: str | None, more: dict[str, object]
) -> None:
    """Write the audit event first: what cannot be audited is not done."""
    from datetime import UTC

    from vitalgate.stream.audit_inbox import AuditEvent, tell_audit
    from vitalgate.stream.errors import NotDeliveredError

    detail = {
        "format": what,
        "folder": str(folder),
        "from": start.isoformat() if start else None,
        "to": stop.isoformat() if stop else None,
        **more,
    }
    event = AuditEvent(
        "data_exported", "patient" if patient else "database", patient or "all", datetime.now(UTC).isoformat(), detail
    )
    try:
        tell_audit(settings().settings.kafka, event, "export")
    except NotDeliveredError as error:
        raise Failure(f"nothing was exported: {error}") from error
