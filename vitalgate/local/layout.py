"""Where the one-machine stack keeps things: everything below one data directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitalgate.config.loading import STACK_FILE
from vitalgate.local.errors import StackError

#: Longest path of a unix socket that both Linux (107) and macOS (103) take.
_SOCKET_PATH_MAX = 100


@dataclass(frozen=True)
class Layout:
    """Paths below the data directory."""

    data: Path

    @classmethod
    def at(cls, data: Path | str) -> Layout:
        """The layout of a data directory, made absolute."""
        return cls(Path(data).absolute())

    @property
    def logs(self) -> Path:
        """Log files, `NAME.log`, with `NAME.log.1` and older beside them."""
        return self.data / "logs"

    @property
    def secrets(self) -> Path:
        """Passwords, one a file, mode 600."""
        return self.data / "secrets"

    @property
    def stack_file(self) -> Path:
        """Addresses of the running stack; a source of settings."""
        return self.data / STACK_FILE

    @property
    def state_file(self) -> Path:
        """What is remembered between runs: ports, cluster id, where the database is."""
        return self.data / "state.json"

    @property
    def lock_file(self) -> Path:
        """Locked while a supervisor, or a child of one, lives."""
        return self.data / "lock"

    @property
    def control(self) -> Path:
        """The supervisor's socket; in the temporary directory when the data directory's path is too long for one."""
        direct = self.data / "control.sock"
        if len(os.fsencode(direct)) <= _SOCKET_PATH_MAX:
            return direct
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"vitalgate-{os.getuid()}-{digest}.sock"

    def log(self, name: str) -> Path:
        """Log file of one process."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the directories.

        Others may pass through the data directory, not list it: PostgreSQL may have to run as another user below it.

        Raises
        ------
        StackError
            When the data directory cannot be made.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self.data.chmod(0o711)
            for folder in (self.logs, self.secrets):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise StackError(
                f"the data directory {self.data} cannot be used ({error.strerror}); give another one with --data"
            ) from error

    def secret(self, name: str) -> Path:
        """The file of a random password, made at first use."""
        path = self.secrets / name
        if not path.is_file():
            write_private(path, secrets.token_urlsafe(24) + "\n")
        return path

    def signing_key(self) -> Path:
        """The file of the Ed25519 key that signs audit checkpoints (PEM), made at first use."""
        path = self.secrets / "audit-signing-key.pem"
        if not path.is_file():
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_private(path, pem.decode())
        return path

    def key_ring(self) -> Path:
        """The file of the key ring that seals what names a person, made at first use."""
        path = self.secrets / "keys.ring"
        if not path.is_file():
            from datetime import UTC, datetime

            from vitalgate.pki import keyring

            keyring.write(path, keyring.new_ring(datetime.now(UTC).date()))
        return path


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read it."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    part.replace(path)


def write_stack_file(layout: Layout, values: Mapping[str, object]) -> None:
    """Write addresses as TOML: `{"mqtt.port": 1883}` becomes a table `[mqtt]`."""
    sections: dict[str, list[str]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        # JSON strings, numbers and booleans are TOML too, but for DEL, which no path or address has.
        sections.setdefault(section, []).append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    text = "# Written by `vitalgate up`; the running stack's addresses.\n"
    for section, lines in sections.items():
        text += f"\n[{section}]\n" + "\n".join(lines) + "\n"
    write_private(layout.stack_file, text)


class State:
    """What is remembered between runs, a small JSON document."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            self._values = json.loads(layout.state_file.read_text(encoding="utf-8"))

    def get(self, name: str) -> Any:
        """A remembered value, or None."""
        return self._values.get(name)

    def set(self, name: str, value: Any) -> None:
        """Remember a value, at once on disk."""
        with self._lock:  # parts are prepared in threads
            if self._values.get(name) != value:
                self._values[name] = value
                write_private(self._layout.state_file, json.dumps(self._values, indent=1, sort_keys=True) + "\n")
