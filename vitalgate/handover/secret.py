"""Secrets of destinations: named in the file of destinations, kept in a file or in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SecretError(Exception):
    """A secret cannot be had; the text says which and what to do, never the secret."""


class Secret(BaseModel):
    """Where a secret is: ``{ file = "/run/secrets/board" }`` or ``{ env = "BOARD_SECRET" }``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field("", description="A file that holds it; a line end after it does not count.")
    env: str = Field("", description="Or the environment variable that does.", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if bool(self.file) == bool(self.env):
            raise ValueError('say where the secret is, either { file = "…" } or { env = "…" }')
        return self

    def read(self, what: str, env: Mapping[str, str] | None = None) -> str:
        """The secret.

        Raises
        ------
        SecretError
            When the file cannot be read, the variable is not set, or it is empty.
        """
        if self.env:
            found = (os.environ if env is None else env).get(self.env, "").strip()
            if not found:
                raise SecretError(f"{what}: the environment variable {self.env} is not set; set it for this process")
            return found
        try:
            found = Path(self.file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SecretError(f"{what}: file {self.file} cannot be read: {why}") from error
        if not found:
            raise SecretError(f"{what}: file {self.file} is empty; put the secret into it")
        return found
