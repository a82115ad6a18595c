"""Every column of every public view is explained, in the page and in the database."""

from __future__ import annotations

from pathlib import Path

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import connect, names
from vitalgate.storage.dictionary import Dictionary, page, read_columns

PAGE = Path(__file__).parents[2] / "docs/data-dictionary.md"


def test_every_column_is_explained_and_nothing_else(database: DatabaseSettings) -> None:
    with connect(database, "test") as connection:
        columns = read_columns(connection, names(database))
    dictionary = Dictionary()
    assert columns
    missing = [
        f"{view}.{name}" for view, found in columns.items() for name, _ in found if not dictionary.meaning(view, name)
    ]
    assert missing == []
    assert [view for view in columns if view not in dictionary.views] == []
    assert dictionary.unused({view: [name for name, _ in found] for view, found in columns.items()}) == []
    assert PAGE.read_text() == page(columns), "run `vitalgate schema dictionary`"


def test_the_database_explains_itself(database: DatabaseSettings) -> None:
    with connect(database, "test") as connection:
        [(text,)] = connection.execute(
            "SELECT col_description(%s::regclass, 1)", (f"{names(database).schema}.readings",)
        ).fetchall()
    assert text == Dictionary().meaning("readings", "device_id")
