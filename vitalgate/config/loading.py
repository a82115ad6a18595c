"""Merge the sources of settings and remember where each value came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vitalgate.config.settings import Settings

ENV_PREFIX = "VITALGATE_"
#: Environment names that are not settings: read by tests and start-up, listed so that a typo still shows.
OTHER_ENV = frozenset(
    {"VITALGATE_CONFIG", "VITALGATE_ECG_DATA", "VITALGATE_KEEP_TEST_DATA", "VITALGATE_START_GATE", "VITALGATE_STRICT"}
)
STACK_FILE = "stack.toml"


class SettingsError(Exception):
    """A setting is unknown or has an unusable value; the text names it, its source and the remedy."""


@dataclass(frozen=True)
class Described:
    """One setting as `vitalgate settings` prints it."""

    name: str
    value: object
    source: str
    meaning: str
    env: str


@dataclass(frozen=True)
class Loaded:
    """Settings together with the source of every value."""

    settings: Settings
    sources: Mapping[str, str]

    def describe(self) -> Iterator[Described]:
        """Every setting in the model's order, with its value, source and meaning."""
        for section, name, field in _fields():
            full = f"{section}.{name}"
            yield Described(
                full,
                getattr(getattr(self.settings, section), name),
                self.sources.get(full, "default"),
                field.description or "",
                env_name(full),
            )


def _fields() -> Iterator[tuple[str, str, Any]]:
    for section, outer in Settings.model_fields.items():
        model = outer.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items():
            yield section, name, field


def names() -> list[str]:
    """All setting names, `section.name`."""
    return [f"{section}.{name}" for section, name, _ in _fields()]


def env_name(name: str) -> str:
    """The environment variable of a setting: `mqtt.port` is VITALGATE_MQTT_PORT."""
    return ENV_PREFIX + name.replace(".", "_").upper()


def load(
    *,
    config: Path | None = None,
    flags: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    data: str | None = None,
) -> Loaded:
    """Read and merge all sources.

    Parameters
    ----------
    config
        A TOML file; else the one named by ``VITALGATE_CONFIG``, else ``vitalgate.toml`` here if there is one.
    flags
        ``{"mqtt.port": "1884"}`` as given on the command line.
    env
        The environment; defaults to ``os.environ``.
    data
        The data directory flag (``--data``), which also says where the running stack's addresses are read.

    Raises
    ------
    SettingsError
        For an unknown name, an unreadable file or a value out of range.
    """
    env = os.environ if env is None else env
    flags = dict(flags or {})
    if data is not None:
        flags["stack.data"] = data
    known = set(names())
    by_env = {env_name(name): name for name in known}
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}

    def take(name: str, value: Any, source: str) -> None:
        if name not in known:
            raise SettingsError(f"unknown setting {name!r} in {source}; `vitalgate settings` lists all of them")
        merged[name] = value
        sources[name] = source

    from_env: dict[str, str] = {}
    for key, value in env.items():
        if not key.startswith(ENV_PREFIX) or key in OTHER_ENV:
            continue
        if key not in by_env:
            raise SettingsError(f"unknown setting {key} in the environment; `vitalgate settings` lists all of them")
        from_env[by_env[key]] = value

    path = config or (Path(env["VITALGATE_CONFIG"]) if env.get("VITALGATE_CONFIG") else None)
    if path is None and Path("vitalgate.toml").is_file():
        path = Path("vitalgate.toml")
    from_file = _read_toml(path) if path else {}

    where = flags.get("stack.data") or from_env.get("stack.data") or from_file.get("stack.data") or ".vitalgate"
    stack = Path(str(where)) / STACK_FILE
    if stack.is_file():
        for name, value in _read_toml(stack).items():
            take(name, value, "stack")
    for name, value in from_file.items():
        take(name, value, f"file {path}")
    for name, value in from_env.items():
        take(name, value, f"environment {env_name(name)}")
    for name, value in flags.items():
        take(name, value, "flag")

    nested: dict[str, dict[str, Any]] = {section: {} for section in Settings.model_fields}
    for name, value in merged.items():
        section, _, key = name.partition(".")
        nested[section][key] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"])
            lines.append(f"{name} = {item['input']!r} from {sources.get(name, 'default')}: {item['msg']}")
        raise SettingsError("; ".join(lines)) from error
    return Loaded(settings, sources)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from error
    flat: dict[str, Any] = {}
    for section, values in document.items():
        if not isinstance(values, dict):
            raise SettingsError(f"{path}: {section!r} must be a table such as [mqtt]")
        for key, value in values.items():
            flat[f"{section}.{key}"] = value
    return flat


def read_secret(path: str, what: str) -> str:
    """The secret in a file, or in the environment variable that `env:NAME` names, without its line end.

    Raises
    ------
    SettingsError
        When none is named or it cannot be read; the secret itself is never in the message.
    """
    if not path:
        raise SettingsError(f"no file is set for the {what}")
    if path.startswith("env:"):
        name = path.removeprefix("env:")
        if not os.environ.get(name):
            raise SettingsError(f"the {what} is to be read from the environment variable {name}, which is not set")
        return os.environ[name].strip()
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"the {what} cannot be read from {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"the {what} cannot be read from {path}: it is not text in UTF-8") from None
