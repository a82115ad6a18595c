"""JSON Schemas and the AsyncAPI document of the public topics, and the OpenAPI document."""

from __future__ import annotations

from pathlib import Path

import click

from vitalgate.cli._context import Failure, json_option, print_json

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("schemas"))


@click.group()
def command() -> None:
    """Schemas of the public topics and of the API: export them, or check that they fit code and the last release."""


@command.command()
@_FOLDER
def export(folder: Path) -> None:
    """Write one JSON Schema for each public topic, asyncapi.json and openapi.json into FOLDER."""
    from vitalgate.api import contract
    from vitalgate.schemas.export import write

    for path in (*write(folder), contract.write(folder)):
        click.echo(str(path))


@command.command()
@_FOLDER
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Compare FOLDER with the models, and the models with the last release; exit 1 when something would break."""
    from vitalgate.api import contract
    from vitalgate.schemas.export import problems

    found = problems(folder) + contract.problems(folder)
    if as_json:
        print_json({"problems": found})
    elif not found:
        click.echo("Schemas fit the models and the last release.")
    if found:
        raise Failure("\n".join(found))


@command.command()
@_FOLDER
def release(folder: Path) -> None:
    """Take today's schemas as those of the release, once a release is made."""
    from vitalgate.api import contract
    from vitalgate.schemas.export import RELEASED
    from vitalgate.schemas.export import release as take

    taken = take(folder)
    contract.write(folder / RELEASED)
    click.echo(f"{len(taken)} schemas and {contract.NAME} are the release's now.")


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("docs/data-dictionary.md"))
def dictionary(file: Path) -> None:
    """Write the data dictionary, column by column, from the migrated database into FILE."""
    from vitalgate.cli._context import settings
    from vitalgate.storage.connect import connect, names
    from vitalgate.storage.dictionary import page, read_columns
    from vitalgate.storage.errors import StorageError

    database = settings().settings.database
    try:
        with connect(database, "dictionary") as connection:
            columns = read_columns(connection, names(database))
    except StorageError as error:
        raise Failure(str(error)) from error
    file.write_text(page(columns), encoding="utf-8")
    click.echo(str(file))


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("docs/records.md"))
@_FOLDER
def records(file: Path, folder: Path) -> None:
    """Write the page about records into FILE, and their JSON Schemas into FOLDER, from the models."""
    from vitalgate.records.page import SCHEMA_FILE, page, schemas

    file.write_text(page(), encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCHEMA_FILE).write_text(schemas(), encoding="utf-8")
    click.echo(f"{file}\n{folder / SCHEMA_FILE}")
