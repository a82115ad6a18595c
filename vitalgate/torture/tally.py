"""The rounds so far, one JSON line each, in the state directory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from vitalgate.torture import traffic
from vitalgate.torture.outcome import Outcome
from vitalgate.torture.round import Result

_ROUNDS = "rounds.jsonl"
_SOAK = "soak.json"
_REFERENCE = "reference-{seed}.json"
_PACKAGE = Path(__file__).parents[1]
#: Rooms whose code decides what comes out of a round.
_DECIDING = (
    "alerts",
    "devices",
    "signal",
    "simulators",
    "storage",
    "stream",
    "torture/traffic.py",
    "torture/outcome.py",
)


class Tally:
    """Results and references kept in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def rounds(self) -> list[Result]:
        """All rounds kept, in the order in which they were run."""
        try:
            lines = (self.folder / _ROUNDS).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        names = {each.name for each in fields(Result)}
        return [Result(**{k: v for k, v in json.loads(line).items() if k in names}) for line in lines if line]

    def add(self, result: Result) -> None:
        """Keep one."""
        with (self.folder / _ROUNDS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result.document()) + "\n")

    def soak(self) -> dict[str, Any] | None:
        """The last soak, when there was one."""
        try:
            found: dict[str, Any] = json.loads((self.folder / _SOAK).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def keep_soak(self, found: dict[str, Any]) -> None:
        """Keep a soak in the place of the last."""
        (self.folder / _SOAK).write_text(json.dumps(found), encoding="utf-8")

    def clear(self) -> None:
        """Begin anew."""
        (self.folder / _ROUNDS).unlink(missing_ok=True)

    def reference(self, seed: int) -> Outcome | None:
        """The outcome of the undisturbed round of this seed, when one was kept of this very code."""
        try:
            kept: dict[str, Any] = json.loads((self.folder / _REFERENCE.format(seed=seed)).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return Outcome.of(kept["outcome"]) if kept["code"] == code() else None

    def keep_reference(self, seed: int, found: Outcome) -> Outcome:
        """Keep it, and give it as it will be read again."""
        document = {"code": code(), "outcome": found.document()}
        text = json.dumps(document)
        (self.folder / _REFERENCE.format(seed=seed)).write_text(text, encoding="utf-8")
        return Outcome.of(json.loads(text)["outcome"])


def code() -> str:
    """A digest of all that decides a round's outcome."""
    digest = hashlib.blake2b(str(traffic.VERSION).encode(), digest_size=16)
    for name in _DECIDING:
        path = _PACKAGE / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(_PACKAGE)).encode() + file.read_bytes())
    return digest.hexdigest()
