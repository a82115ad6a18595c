"""Rule files, and which rules a metric feeds."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitalgate.alerts.machine import Term, compile_terms, fingerprint
from vitalgate.alerts.rule import Override, Rule, with_override

VECTORS = ".vectors.toml"


class RuleError(Exception):
    """A rule file cannot be used; the text names the file, what is wrong and the remedy."""


class Book:
    """Rules in force for one patient (or, without overrides, for everybody)."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: dict[str, Rule] = {}
        for rule in rules:
            if rule.id in self.rules:
                raise RuleError(f"rule {rule.id!r} is there twice; rename or remove one")
            self.rules[rule.id] = rule
        self.terms: dict[str, tuple[Term, ...]] = {rule.id: compile_terms(rule) for rule in self.rules.values()}
        by_key: dict[str, list[Term]] = {}
        for terms in self.terms.values():
            for term in terms:
                by_key.setdefault(term.key, []).append(term)
        self.by_key: dict[str, tuple[Term, ...]] = {key: tuple(terms) for key, terms in by_key.items()}
        self.readings = {key.removeprefix("reading/"): key for key in self.by_key if key.startswith("reading/")}
        self.features = {key.removeprefix("feature/"): key for key in self.by_key if key.startswith("feature/")}
        text = "\n".join(sorted(fingerprint(term) for terms in self.terms.values() for term in terms))
        self.fingerprint = blake2b(text.encode(), digest_size=8).hexdigest()
        """Two books share it only if they judge alike."""
        self.rules_by_key = {key: tuple(dict.fromkeys(t.rule for t in terms)) for key, terms in self.by_key.items()}

    def with_overrides(self, overrides: Mapping[str, Any]) -> tuple[Book, list[str]]:
        """The book with a patient's own limits, and a sentence for each override that cannot be used."""
        trouble: list[str] = []
        changed: list[Rule] = []
        wanted = dict(overrides)
        for rule in self.rules.values():
            raw = wanted.pop(rule.id, None)
            if raw is None:
                changed.append(rule)
                continue
            try:
                override = Override.model_validate(raw)
                if override.enabled:
                    changed.append(with_override(rule, override))
            except ValidationError as error:
                # An unusable override must not switch a rule off.
                trouble.append(f"override of {rule.id} is not used: {_first(error)}")
                changed.append(rule)
        trouble += [f"override of unknown rule {name}" for name in wanted]
        return Book(changed), trouble


def parse(text: str, where: str) -> Rule:
    """A rule from the text of its file.

    Raises
    ------
    RuleError
        When it is no valid rule.
    """
    try:
        return Rule.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{where} is not TOML: {error}") from error
    except ValidationError as error:
        raise RuleError(f"{where}: {_first(error)}") from error


@functools.cache
def shipped() -> tuple[Rule, ...]:
    """The rules that come with the package, by id."""
    folder = files("vitalgate.alerts") / "rules"
    found = [
        parse(item.read_text(encoding="utf-8"), item.name)
        for item in folder.iterdir()
        if item.name.endswith(".toml") and not item.name.endswith(VECTORS)
    ]
    return tuple(sorted(found, key=lambda rule: rule.id))


def load(directory: str = "") -> Book:
    """The shipped rules and those of a directory; a rule there replaces the shipped one of the same id.

    Raises
    ------
    RuleError
        When the directory or a file in it cannot be used.
    """
    rules = {rule.id: rule for rule in shipped()}
    if directory:
        path = Path(directory)
        if not path.is_dir():
            raise RuleError(f"alerting.rules names {directory}, which is no directory; give one, or nothing")
        own: dict[str, Rule] = {}
        for file in sorted(path.glob("*.toml")):
            if file.name.endswith(VECTORS):
                continue
            rule = parse(file.read_text(encoding="utf-8"), str(file))
            if rule.id in own:
                raise RuleError(f"{file}: rule {rule.id!r} is there twice in {directory}; rename or remove one")
            own[rule.id] = rule
        rules |= own
    return Book(rules.values())


def _first(error: ValidationError) -> str:
    item = error.errors()[0]
    place = ".".join(str(part) for part in item["loc"])
    return f"{place}: {item['msg']}" if place else str(item["msg"])
