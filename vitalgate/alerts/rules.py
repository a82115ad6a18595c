"""Rule files, and which rules a metric feeds."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from vitalgate.alerts.conditions import Score
from vitalgate.alerts.machine import NEVER, Term, fingerprint
from vitalgate.alerts.profile import ALWAYS, FOREVER, Profile, Variant, first_fault, variants
from vitalgate.alerts.rule import ORDER, Rule
from vitalgate.alerts.scores import SCALE

VECTORS = ".vectors.toml"


class RuleError(Exception):
    """A rule file cannot be used; the text names the file, what is wrong and the remedy."""


class Book:
    """Rules in force for one patient (or, without a profile, for everybody)."""

    def __init__(self, rules: Iterable[Rule], profile: Profile | None = None) -> None:
        self.profile = profile or Profile()
        self.rules: dict[str, Rule] = {}
        self.variants: dict[str, tuple[Variant, ...]] = {}
        """The forms of each rule with their stretches of event time; a rule that is off for ever is not there."""
        for rule in rules:
            if rule.id in self.rules:
                raise RuleError(f"rule {rule.id!r} is there twice; rename or remove one")
            found = variants(rule, self.profile)
            if found:
                self.rules[rule.id] = rule
                self.variants[rule.id] = found
        self.terms: dict[str, tuple[Term, ...]] = {
            name: tuple(dict.fromkeys(term for variant in found for term in variant.terms))
            for name, found in self.variants.items()
        }
        by_key: dict[str, dict[Term, list[str]]] = {}
        for name, terms in self.terms.items():
            for term in terms:
                by_key.setdefault(term.key, {}).setdefault(term, []).append(name)
        self.by_key: dict[str, tuple[Term, ...]] = {key: tuple(terms) for key, terms in by_key.items()}
        self.rules_of: dict[str, tuple[tuple[str, ...], ...]] = {
            key: tuple(tuple(names) for names in terms.values()) for key, terms in by_key.items()
        }
        """By key, of each term in the order of ``by_key``: the rules that use it."""
        self.ranked = sorted(self.rules, key=lambda name: (-ORDER[self.rules[name].priority], name))
        self.rank = {name: place for place, name in enumerate(self.ranked)}
        self.suppressors: dict[str, list[str]] = {}
        """By rule: those that say nothing new beside these, which come first by priority."""
        for name in self.ranked:
            for implied in self.rules[name].suppresses:
                self.suppressors.setdefault(implied, []).append(name)
        self.urgent = frozenset(
            term.key for name, found in self.terms.items() if self.rules[name].priority == "high" for term in found
        )
        """Keys that a rule of high priority listens to."""
        self.readings = _named(self.by_key, "reading/")
        self.features = _named(self.by_key, "feature/")
        self.devices = {kind: (key, self.by_key[key]) for kind, key in _named(self.by_key, "device/").items()}
        """By kind of device: key and terms on its silence."""
        self.flags: dict[str, list[str]] = {}
        """Keys by device flag."""
        for flags, key in _named(self.by_key, "flag/").items():
            for flag in flags.split():
                self.flags.setdefault(flag, []).append(key)
        self.timed = tuple(
            sorted(
                name for name, found in self.variants.items()
                if len(found) > 1 or found[0].windows != ALWAYS or any(term.timed for term in self.terms[name])
            )
        )  # fmt: skip
        """Rules whose alerts time alone can change."""
        self.scored = frozenset(
            name for name, found in self.variants.items() if isinstance(found[0].rule.when[0], Score)
        )
        """Rules on a score."""
        self.bands = [
            (key, k) for key, terms in self.by_key.items() for k, term in enumerate(terms) if term.kind == "band"
        ]
        """Key and place among its terms of each input of a score."""
        self.edges = sorted(
            {
                at for found in self.variants.values() for v in found for window in v.windows for at in window
                if NEVER < at < FOREVER
            }
        )  # fmt: skip
        """Event times at which another form of a rule comes into force."""
        text = "\n".join(f"{name} {self._judgement(name)}" for name in sorted(self.variants))
        self.fingerprint = blake2b(text.encode(), digest_size=8).hexdigest()
        """Two books share it only if they judge alike."""

    def with_profile(self, profile: Profile) -> tuple[Book, list[str]]:
        """The book with what is a patient's own, and a sentence for each entry that cannot be used."""
        book = Book(self.rules.values(), profile)
        unknown = [f"override of unknown rule {name}" for name in profile.overrides if name not in self.rules]
        return book, [*profile.trouble, *unknown]

    def variant_at(self, rule: str, time: int) -> Variant | None:
        """The form of a rule that is in force at an event time."""
        for variant in self.variants.get(rule, ()):
            if any(begin <= time < end for begin, end in variant.windows):
                return variant
        return None

    def judges_as(self, other: Book, rule: str) -> bool:
        """True when both books come to the same alerts of a rule."""
        return self._judgement(rule) == other._judgement(rule)

    def _judgement(self, name: str) -> str:
        found = self.variants.get(name)
        if found is None:
            return ""
        scored = isinstance(found[0].rule.when[0], Score)
        score = (self.profile.facts.get(SCALE), [v.rule.when[0] for v in found]) if scored else ()
        terms = [(v.windows, v.rule.combine, list(map(fingerprint, v.terms))) for v in found]
        return repr((self.rules[name].settle_s, score, terms))


def _named(keys: Iterable[str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): key for key in keys if key.startswith(prefix)}


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
        raise RuleError(f"{where}: {first_fault(error)}") from error


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


def text_of(file: Traversable | Path) -> str:
    """Text of a rule file or of its vectors.

    Raises
    ------
    OSError, UnicodeDecodeError
        When it cannot be read.
    """
    return file.read_text(encoding="utf-8")


def shipped_as_is(rule: Rule) -> bool:
    """Whether this very rule comes with the package."""
    return rule in shipped()


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
