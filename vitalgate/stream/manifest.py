"""What a backup says of itself: its files with their checksums, where Kafka stood, and where the keys are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitalgate.config.settings import Settings

FORMAT = 1
NAME = "manifest.json"
#: Files that settings name and that are no secrets.
_NO_KEYS = frozenset({"mqtt.log_file", "audit.anchor_file"})


class BackupError(Exception):
    """A backup that cannot be made or put back; the text says why and what to do."""


@dataclass
class Manifest:
    """See the module."""

    made_at: str
    """RFC 3339, UTC."""
    version: str
    """Of Vitalgate."""
    schema: str
    prefix: str
    partitions: int
    cluster_id: str
    database: dict[str, Any]
    """storage.dump.Facts."""
    bounds: dict[str, dict[str, list[int]]]
    """First and end offset of every topic partition, before the database was dumped."""
    committed: dict[str, dict[str, dict[str, int | None]]]
    """How far each worker was then: from there on Kafka is replayed."""
    bases: dict[str, int]
    settled: bool
    """Whether everything that Kafka held then is in the dump too."""
    keys: dict[str, str]
    """Setting -> file that is needed besides and is not in the backup, unless `copied` names it."""
    copied: dict[str, str] = field(default_factory=dict)
    """Setting -> file in the backup."""
    compacted: dict[str, int] = field(default_factory=dict)
    """Topic -> records kept."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Path in the backup -> bytes and SHA-256."""
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Add the checksums of all files and write the manifest."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != NAME:
                self.files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": checksum(path)}
        (folder / NAME).write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest of a backup whose files are all as they were written.

    Raises
    ------
    BackupError
        When it is no backup, of another format, or a file is missing or changed; the text names it.
    """
    try:
        document = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BackupError(f"{folder} holds no {NAME}: it is no backup, or one that was not finished") from error
    except (OSError, ValueError) as error:
        raise BackupError(f"{folder / NAME} cannot be read: {error}") from error
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise BackupError(f"{folder} is a backup of another format than {FORMAT}: use the version that wrote it")
    try:
        found = Manifest(**document)
    except TypeError as error:
        raise BackupError(f"{folder / NAME} is not complete: {error}") from error
    for name, told in found.files.items():
        path = folder / name
        if not path.is_file():
            raise BackupError(f"{path} is missing from the backup")
        if path.stat().st_size != told["bytes"] or checksum(path) != told["sha256"]:
            raise BackupError(f"{path} is not as it was written: its checksum differs; take another backup")
    return found


def checksum(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def keys_of(settings: Settings) -> dict[str, str]:
    """Every file or folder of secrets that the settings name."""
    found = {}
    for section, values in settings.model_dump().items():
        for name, value in values.items():
            if name.endswith(("_file", "_dir")) and value and f"{section}.{name}" not in _NO_KEYS:
                found[f"{section}.{name}"] = str(value)
    return found
