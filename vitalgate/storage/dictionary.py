"""The data dictionary: what each view and column means, for the documentation and as comments in the database."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from psycopg import sql

from vitalgate.storage.connect import Connection, Names

_COLUMNS = """
    SELECT c.table_name, c.column_name, format_type(a.atttypid, a.atttypmod)
    FROM information_schema.columns c
    JOIN pg_attribute a ON a.attrelid = format('%%I.%%I', c.table_schema, c.table_name)::regclass
                       AND a.attname = c.column_name
    WHERE c.table_schema = %s ORDER BY c.table_name, c.ordinal_position
"""


@dataclass(frozen=True)
class Column:
    """One column of a view."""

    name: str
    type: str
    meaning: str


class Dictionary:
    """Meanings from ``dictionary.toml``."""

    def __init__(self) -> None:
        text = resources.files(__package__).joinpath("dictionary.toml").read_text(encoding="utf-8")
        document = tomllib.loads(text)
        self.views: Mapping[str, str] = document.pop("views")
        self._common: Mapping[str, str] = document.pop("columns")
        self._own: Mapping[str, Mapping[str, str]] = document

    def meaning(self, view: str, column: str) -> str | None:
        """What a column means, None when nobody has said."""
        return self._own.get(view, {}).get(column) or self._common.get(column)

    def unused(self, columns: Mapping[str, Sequence[str]]) -> list[str]:
        """Entries about what does not exist."""
        there = {column for names in columns.values() for column in names}
        found = [f"[columns] {name}" for name in self._common if name not in there]
        found += [f"[views] {name}" for name in self.views if name not in columns]
        found += [f"[{v}] {c}" for v, own in self._own.items() for c in own if c not in columns.get(v, ())]
        return found


def read_columns(connection: Connection, names: Names) -> dict[str, list[tuple[str, str]]]:
    """(column, type) of every view in the public schema, as the database has them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for view, column, kind in connection.execute(_COLUMNS, (names.schema,)):
        found.setdefault(view, []).append((column, kind))
    return found


def comment(connection: Connection, names: Names) -> None:
    """Put the meanings into the database as comments, so that psql's \\d+ tells them."""
    dictionary = Dictionary()
    for view, columns in read_columns(connection, names).items():
        place = sql.Identifier(names.schema, view)
        if view in dictionary.views:
            connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(place, sql.Literal(dictionary.views[view])))
        for column, _ in columns:
            meaning = dictionary.meaning(view, column)
            if meaning is not None:
                where = sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                    place, sql.Identifier(column), sql.Literal(meaning)
                )
                connection.execute(where)


def page(columns: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """``docs/data-dictionary.md``."""
    dictionary = Dictionary()
    lines = [
        "# Data dictionary",
        "",
        "The views in the schema `vitalgate` (setting `database.db_schema`). They are the stable interface: columns",
        "are added at the end, never moved or removed. Tables are in `vitalgate_data` and may change. The same",
        "sentences are comments in the database (`\\d+ vitalgate.readings`). Times are `timestamptz`, units UCUM.",
        "This page is made by `vitalgate schema dictionary`.",
        "",
    ]
    ordered = [view for view in dictionary.views if view in columns] + sorted(set(columns) - set(dictionary.views))
    for view in ordered:
        lines += [f"## {view}", "", dictionary.views.get(view, ""), "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {kind} | {dictionary.meaning(view, name) or ''} |" for name, kind in columns[view]]
        lines.append("")
    return "\n".join(lines)
