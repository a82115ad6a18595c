"""Settings that a kind of device understands: their form in the catalogue's files, and the judge of a wanted value."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = str | int | float | bool


class SettingRefused(ValueError):
    """A setting that the kind does not know, or a value that it does not take; the text names the limit."""


class Setting(BaseModel):
    """One setting of a kind. A device that does not have it passes over it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    type: Literal["integer", "number", "text", "flag"]
    unit: Annotated[str, Field(description="UCUM; numbers only.")] = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Value, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        number = self.type in ("integer", "number")
        if not number and (self.unit or self.minimum is not None or self.maximum is not None):
            raise ValueError(f"unit, minimum and maximum go with a number, not with a {self.type}")
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum:g} must be below maximum {self.maximum:g}")
        for choice in self.choices:
            if not self._is_of_type(choice):
                raise ValueError(f"choice {choice!r} is no {self.type}")
        return self

    def _is_of_type(self, value: Value) -> bool:
        if self.type == "flag":
            return isinstance(value, bool)
        if self.type == "text":
            return isinstance(value, str)
        if isinstance(value, (bool, str)):
            return False
        return math.isfinite(value) and (self.type == "number" or value == int(value))

    def takes(self) -> str:
        """What it takes, in words: for an error, a help text, a page."""
        if self.choices:
            return "one of " + ", ".join(_shown(choice) for choice in self.choices)
        if self.type == "flag":
            return "true or false"
        if self.type == "text":
            return "a text"
        what = "a whole number" if self.type == "integer" else "a number"
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        high = "" if self.maximum is None else f" to {self.maximum:g}"
        return f"{what}{low}{high}{' ' + self.unit if self.unit else ''}"

    def check(self, name: str, value: Value) -> None:
        """Raises SettingRefused when the value is not one that this setting takes."""
        good = self._is_of_type(value) and (not self.choices or value in self.choices)
        if good and isinstance(value, (int, float)):
            good = (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)
        if not good:
            raise SettingRefused(f"{name} is {_shown(value)}; it takes {self.takes()}")


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def check(kind: str, known: Mapping[str, Setting], wanted: Mapping[str, Value]) -> None:
    """Whether a kind understands what a device of it is to be set to.

    Parameters
    ----------
    kind
        Its name, for the message.
    known
        `Kind.settings`.
    wanted
        Names and values.

    Raises
    ------
    SettingRefused
        For the first name that the kind does not have (the text lists those it has) or value that it does not take.
    """
    for name, value in wanted.items():
        setting = known.get(name)
        if setting is None:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known) or 'none'}"
            raise SettingRefused(f"{kind} has no setting {name!r}; {hint}")
        setting.check(name, value)
