"""An import-linter contract: every room of the package and what it may import, as one table in pyproject.toml."""

from __future__ import annotations

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class RoomsContract(Contract):
    """Each line of ``rooms`` is `room: the rooms it may import`; a room missing there, or a further import, fails."""

    package = fields.StringField()
    rooms = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Compare the table with the imports that there are."""
        package = str(self.package)
        allowed = self._table()
        children = {name.removeprefix(f"{package}.") for name in graph.find_children(package)}
        missing = sorted(children - allowed.keys())
        wrong: list[dict[str, Any]] = []
        for room in sorted(children & allowed.keys()):
            name = f"{package}.{room}"
            for module in sorted({name} | graph.find_descendants(name)):
                for imported in sorted(graph.find_modules_directly_imported_by(module)):
                    target = imported.removeprefix(f"{package}.").split(".")[0]
                    if imported != package and target != room and target not in allowed[room]:
                        wrong += graph.get_import_details(importer=module, imported=imported)
        return ContractCheck(kept=not (missing or wrong), metadata={"missing": missing, "wrong": wrong})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say what is wrong, a line each."""
        for room in check.metadata["missing"]:
            output.print_error(f"room {room} is not in the table; add a line that says what it may import")
        for found in check.metadata["wrong"]:
            place = f"{found['importer']}:{found['line_number']}"
            output.print_error(f"{place} must not import {found['imported']}: {found['line_contents']}")

    def _table(self) -> dict[str, set[str]]:
        table = {}
        for line in self.rooms:  # type: ignore[attr-defined]
            room, _, may = str(line).partition(":")
            table[room.strip()] = set(may.replace(",", " ").split())
        return table
