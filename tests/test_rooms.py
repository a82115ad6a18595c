"""The rooms: the table people read is the contract that is checked, and the pure rooms are pure."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "vitalgate"
ROW = re.compile(r"^\| `(\w+)/` \|(.*)\|(.*)\|$")
#: Modules of the standard library and of others that do I/O, wait, or start something.
IMPURE = {
    "aiokafka", "aiomqtt", "asyncio", "concurrent", "confluent_kafka", "faust", "fcntl", "ftplib", "getpass", "glob",
    "http", "kafka", "logging", "mmap", "mode", "multiprocessing", "paho", "prometheus_client", "psycopg",
    "psycopg_pool", "requests", "sched", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3",
    "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uvloop",
}  # fmt: skip
#: Calls that read a clock, an environment, a file, or chance.
IMPURE_CALLS = {
    "open", "input", "print", "now", "utcnow", "today", "urandom", "getenv", "uuid1", "uuid4", "token_hex",
    "default_rng", "seed", "read_text", "write_text", "read_bytes", "write_bytes",
}  # fmt: skip
#: What reads data files that are shipped with a room or named to it, once, at load; and what is run by hand.
LOADERS = {
    "vitalgate/alerts/rules.py", "vitalgate/devices/catalogue.py", "vitalgate/devices/units.py",
    "vitalgate/signal/trees.py",
}  # fmt: skip
READS = {"open", "read_text", "read_bytes"}
BY_HAND = {"vitalgate/devices/pages.py": "writes docs/kinds.md, docs/metrics.md and docs/reasons.md"}


def table() -> dict[str, tuple[str, str]]:
    """Room to its job and what it may import, as docs/architecture.md says."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    return {found[1]: (found[2].strip(), found[3].strip()) for found in map(ROW.match, text.splitlines()) if found}


def contract() -> dict[str, set[str]]:
    """Room to the rooms it may import, as the import rules say."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (rooms,) = (each["rooms"] for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "rooms")
    split = (line.partition(":") for line in rooms)
    return {room.strip(): set(may.replace(",", " ").split()) for room, _, may in split}


def pure_rooms() -> list[str]:
    return sorted(room for room, (job, _) in table().items() if "**pure**" in job)


def modules(room: str) -> Iterator[tuple[Path, ast.Module]]:
    found = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else sorted((PACKAGE / room).rglob("*.py"))
    for path in found:
        yield path, ast.parse(path.read_text(), str(path))


def rooms() -> set[str]:
    """The rooms that there are."""
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    return found | {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}


def test_every_room_is_in_the_table_and_in_the_contract() -> None:
    assert set(table()) == rooms()
    assert rooms() <= set(contract())


@pytest.mark.parametrize("room", sorted(rooms()))
def test_the_table_says_what_the_contract_allows(room: str) -> None:
    said = table()[room][1]
    names = {"nothing of ours": set(), "all": rooms() - {room}}.get(said, set(re.findall(r"`(\w+)`", said)))
    assert names == contract()[room] & rooms()


def test_the_table_calls_some_rooms_pure() -> None:
    assert {"devices", "signal", "alerts", "audit"} <= set(pure_rooms())


@pytest.mark.parametrize("room", pure_rooms())
def test_a_pure_room_does_no_io_and_reads_no_clock(room: str) -> None:
    wrong = [
        f"{_name(path)}:{line}: {what}"
        for path, tree in modules(room)
        for line, what in impurities(tree, IMPURE_CALLS - READS if _name(path) in LOADERS else IMPURE_CALLS)
        if _name(path) not in BY_HAND
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_exempt_is_there_and_needs_it() -> None:
    for name in {*LOADERS, *BY_HAND}:
        assert list(impurities(ast.parse((REPOSITORY / name).read_text()), IMPURE_CALLS)), name
    for name in BY_HAND:
        module = name.removesuffix(".py").replace("/", ".")
        assert not [path for path in PACKAGE.rglob("*.py") if _name(path) != name and module in path.read_text()], name


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def impurities(tree: ast.Module, calls: set[str]) -> Iterator[tuple[int, str]]:
    """Line and description of every import and call that a pure room must not have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in calls:
                yield node.lineno, f"calls {name}"
            continue
        else:
            continue
        for name in names:
            if name.split(".")[0] in IMPURE:
                yield node.lineno, f"imports {name}"
