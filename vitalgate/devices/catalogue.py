"""The device catalogue: which kinds there are, what each measures, in which units and within which limits.

Read from data files: `metrics/*.toml`, `vocabulary.toml` and one file a kind in `kinds/*.toml`. A new kind is one
such file and no code; a metric that only it has is defined in the same file.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vitalgate.devices.catalogue_files import (
    METRIC_NAME,
    ChannelFile,
    CodeFile,
    KindFile,
    KindMetricFile,
    MdcCode,
    MetricFile,
    PanelFile,
    SiteFile,
    VocabularyFile,
)
from vitalgate.devices.kind_settings import Setting
from vitalgate.devices.units import Unit, mdc_number, quantities, rational

HERE = Path(__file__).parent
_INF = math.inf


class CatalogueError(Exception):
    """A catalogue file is wrong; the text names the file, the field and what is expected."""


class UnknownName(KeyError):
    """No kind or metric of this name; the text lists those there are."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Code:
    """One coded value."""

    code: str
    title: str
    snomed: str | None
    mdc: int | None
    loinc_answer: str | None
    unusual: bool


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, ready for use: limits are in `unit`; `codes` is empty for a number."""

    name: str
    title: str
    unit: str
    """Canonical UCUM unit; '' for a coded metric."""
    units: dict[str, Unit]
    """Accepted units by UCUM code."""
    codes: dict[str, Code]
    """Accepted codes and their aliases; each maps to its code."""
    resolution: float
    low: float
    high: float
    unusual_low: float
    """The greatest value that is unusually low; -inf when none is."""
    unusual_high: float
    """The least value that is unusually high; +inf when none is."""
    sites: frozenset[str]
    contexts: dict[str, frozenset[str]]
    cadence_s: float
    loinc: tuple[str, ...]
    loinc_by_unit: dict[str, str]
    mdc: MdcCode | None
    mdc_other: tuple[MdcCode, ...]
    local: str | None
    by_site: dict[str, SiteFile]
    panel: PanelFile | None
    note: str

    @property
    def coded(self) -> bool:
        """True when its values are codes, not numbers."""
        return bool(self.codes)


@dataclass(frozen=True, slots=True)
class Channel:
    """A waveform channel, ready for use: limits are in `unit`."""

    name: str
    title: str
    unit: str
    units: dict[str, Unit]
    rate: Fraction
    """Nominal sampling rate, Hz."""
    rate_min: Fraction
    rate_max: Fraction
    low: float
    high: float
    unusual_low: float
    unusual_high: float
    loinc: tuple[str, ...]
    mdc: int | None
    lead_mdc: int | None
    """MDC lead code of an ECG channel."""
    local: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """Metrics of one group whose values must rise in this order."""

    metrics: tuple[str, ...]
    strict: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of device, with the metrics and channels as this kind has them."""

    name: str
    title: str
    description: str
    metrics: dict[str, Metric]
    channels: dict[str, Channel]
    ordered: tuple[Order, ...]
    mdc_profiles: tuple[MdcCode, ...]
    snomed: str | None
    settings: dict[str, Setting]
    """What a device of this kind can be set to over its `down` topic."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All kinds and all shared metrics."""

    kinds: dict[str, Kind]
    metrics: dict[str, Metric]

    def kind(self, name: str) -> Kind:
        """Raises UnknownName, which lists the kinds, when there is none of this name."""
        try:
            return self.kinds[name]
        except KeyError:
            raise UnknownName(f"no device kind {name!r}; there are {', '.join(self.kinds)}") from None

    def metric(self, name: str) -> Metric:
        """Raises UnknownName, which lists the metrics, when there is none of this name."""
        try:
            return self.metrics[name]
        except KeyError:
            raise UnknownName(f"no metric {name!r}; there are {', '.join(self.metrics)}") from None


M = TypeVar("M", bound=BaseModel)


def _document(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: not valid TOML: {error}") from error


def _parse(path: Path, model: type[M], document: object, at: str = "") -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in ((at,) if at else ()) + first["loc"]) or "(the file)"
        raise CatalogueError(f"{path}: {field}: {first['msg']} (value {first['input']!r})") from error


def _codes(files: Mapping[str, CodeFile]) -> dict[str, Code]:
    found: dict[str, Code] = {}
    for name, file in files.items():
        code = Code(
            name, file.title, file.snomed, mdc_number(file.mdc) if file.mdc else None, file.loinc_answer, file.unusual
        )
        for word in (name, *file.aliases):
            found[word] = code
    return found


def _contexts(path: Path, at: str, names: Iterable[str], words: VocabularyFile) -> dict[str, frozenset[str]]:
    found = {}
    for name in names:
        if name not in words.contexts:
            raise CatalogueError(f"{path}: {at}.contexts: {name!r} is not one of {', '.join(words.contexts)}")
        found[name] = frozenset(words.contexts[name])
    return found


def _metric(path: Path, name: str, file: MetricFile, words: VocabularyFile) -> Metric:
    if not METRIC_NAME.match(name):
        raise CatalogueError(f"{path}: {name}: a metric's name is lower case words joined by _ and .")
    codes: dict[str, Code] = {}
    if isinstance(file.codes, str):
        if file.codes not in words.codes:
            raise CatalogueError(f"{path}: {name}.codes: no list {file.codes!r} in vocabulary.toml")
        codes = _codes(words.codes[file.codes])
    elif file.codes is not None:
        codes = _codes(file.codes)
    quantity = quantities()[file.quantity] if file.quantity else None
    accepted = {code: quantity.units[code] for code in file.units or quantity.units} if quantity else {}
    low, high = file.plausible or (-_INF, _INF)
    unusual_low, unusual_high = -_INF, _INF
    if file.unusual_at_or_below is not None:
        unusual_low = file.unusual_at_or_below
    elif file.unusual_below is not None:
        unusual_low = math.nextafter(file.unusual_below, -_INF)
    if file.unusual_at_or_above is not None:
        unusual_high = file.unusual_at_or_above
    elif file.unusual_above is not None:
        unusual_high = math.nextafter(file.unusual_above, _INF)
    local = file.local
    if local is None and not file.loinc and file.mdc is None:
        local = "vitalgate:" + name.replace(".", "/")
    return Metric(
        name=name, title=file.title, unit=quantity.canonical if quantity else "", units=accepted, codes=codes,
        resolution=file.resolution or 0.0, low=low, high=high, unusual_low=unusual_low, unusual_high=unusual_high,
        sites=frozenset(file.sites), contexts=_contexts(path, name, file.contexts, words), cadence_s=0.0,
        loinc=tuple(file.loinc), loinc_by_unit=file.loinc_by_unit, mdc=file.mdc, mdc_other=tuple(file.mdc_other),
        local=local, by_site=file.by_site, panel=file.group_of, note=file.note,
    )  # fmt: skip


def _narrowed(path: Path, base: Metric, file: KindMetricFile, words: VocabularyFile) -> Metric:
    at = f"metrics.{file.name}"
    units = base.units
    if file.units is not None:
        missing = [unit for unit in file.units if unit not in base.units]
        if missing or not file.units:
            raise CatalogueError(f"{path}: {at}.units: {file.units!r} must be some of {', '.join(base.units)}")
        units = {unit: base.units[unit] for unit in file.units}
    low, high = file.plausible or (base.low, base.high)
    if low < base.low or high > base.high:
        raise CatalogueError(f"{path}: {at}.plausible: [{low}, {high}] must lie within [{base.low}, {base.high}]")
    sites = base.sites if file.sites is None else frozenset(file.sites)
    if sites - base.sites:
        raise CatalogueError(f"{path}: {at}.sites: {sorted(sites - base.sites)} not among {sorted(base.sites)}")
    contexts = base.contexts if file.contexts is None else _contexts(path, at, file.contexts, words)
    return replace(
        base, cadence_s=file.cadence_s, units=units, low=low, high=high, sites=sites, contexts=contexts,
        resolution=file.resolution or base.resolution,
    )  # fmt: skip


def _channels(path: Path, file: ChannelFile, words: VocabularyFile) -> Iterable[Channel]:
    quantity = quantities()[file.quantity]
    for code in file.units:
        if code not in quantity.units:
            raise CatalogueError(f"{path}: channels.units: {code!r} is not one of {', '.join(quantity.units)}")
    units = {code: quantity.units[code] for code in file.units or quantity.units}
    unusual = file.unusual or (-_INF, _INF)
    for name in file.names:
        mdc, lead_mdc, local = file.mdc.number if file.mdc else None, None, file.local
        if name.startswith("ecg."):
            lead = words.leads.get(name.removeprefix("ecg."))
            if lead is None:
                raise CatalogueError(
                    f"{path}: channels.names: {name!r} is not ecg. and one of {', '.join(words.leads)}"
                )
            mdc = mdc_number(lead["potential"]) if "potential" in lead else mdc
            lead_mdc = mdc_number(lead["lead"]) if "lead" in lead else None
            local = lead.get("local", local)
        yield Channel(
            name, file.title, quantity.canonical, units, file.fraction(), rational(file.rate_min),
            rational(file.rate_max), *file.plausible, *unusual, tuple(file.loinc), mdc, lead_mdc, local,
        )  # fmt: skip


def _kind(path: Path, shared: Mapping[str, Metric], words: VocabularyFile) -> Kind:
    file = _parse(path, KindFile, _document(path))
    if file.kind != path.stem:
        raise CatalogueError(f"{path}: kind: {file.kind!r} must be the file's name, {path.stem!r}")
    own = {name: _metric(path, name, metric, words) for name, metric in file.define.items()}
    if clash := own.keys() & shared.keys():
        raise CatalogueError(f"{path}: define: {sorted(clash)} are shared metrics already; give another name")
    known = {**shared, **own}
    metrics: dict[str, Metric] = {}
    for entry in file.metrics:
        if entry.name not in known:
            raise CatalogueError(f"{path}: metrics: no metric {entry.name!r}; define it here or in metrics/")
        if entry.name in metrics:
            raise CatalogueError(f"{path}: metrics: {entry.name!r} is listed twice")
        metrics[entry.name] = _narrowed(path, known[entry.name], entry, words)
    channels: dict[str, Channel] = {}
    for group in file.channels:
        for channel in _channels(path, group, words):
            if channel.name in channels:
                raise CatalogueError(f"{path}: channels: {channel.name!r} is listed twice")
            channels[channel.name] = channel
    if not metrics and not channels:
        raise CatalogueError(f"{path}: metrics: a kind needs at least one metric or channel")
    for order in file.ordered:
        for name in order.metrics:
            if name not in metrics or metrics[name].coded:
                raise CatalogueError(f"{path}: ordered: {name!r} is no number that this kind reports")
    return Kind(
        file.kind, file.title, file.description, metrics, channels,
        tuple(Order(tuple(order.metrics), order.strict) for order in file.ordered),
        tuple(file.mdc_profiles), file.snomed, file.settings,
    )  # fmt: skip


@lru_cache(maxsize=16)
def load(*extra: Path) -> Catalogue:
    """The shipped catalogue, and the kinds in further directories.

    Parameters
    ----------
    extra
        Directories of further kind files. A kind of a shipped name replaces the shipped one.

    Raises
    ------
    CatalogueError
        When a file is wrong; the text names the file and the field.
    """
    words = _parse(HERE / "vocabulary.toml", VocabularyFile, _document(HERE / "vocabulary.toml"))
    metrics: dict[str, Metric] = {}
    for path in sorted((HERE / "metrics").glob("*.toml")):
        for name, entry in _document(path).items():
            if name in metrics:
                raise CatalogueError(f"{path}: {name}: is defined in another file already")
            metrics[name] = _metric(path, name, _parse(path, MetricFile, entry, name), words)
    kinds: dict[str, Kind] = {}
    for directory in (HERE / "kinds", *extra):
        if not directory.is_dir():
            raise CatalogueError(f"{directory}: is not a directory of kind files")
        for path in sorted(directory.glob("*.toml")):
            kinds[path.stem] = _kind(path, metrics, words)
    return Catalogue(kinds, metrics)
