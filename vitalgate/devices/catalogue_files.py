"""The form of the catalogue's data files, checked by pydantic when they are loaded."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vitalgate.devices.kind_settings import Setting
from vitalgate.devices.units import UnitError, mdc_number, quantities, rational

METRIC_NAME = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$")


def loinc_is_valid(code: str) -> bool:
    """True when the check digit (modulo 10, Luhn from the right) of a LOINC code is right.

    Examples
    --------
    >>> loinc_is_valid("3150-0"), loinc_is_valid("3150-6")
    (True, False)
    """
    number, dash, check = code.partition("-")
    if not (dash and number.isdecimal() and len(check) == 1 and check.isdecimal() and len(number) <= 7):
        return False
    total = 0
    for place, digit in enumerate(reversed(number)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return (10 - total % 10) % 10 == int(check)


def _loinc(code: str) -> str:
    if not loinc_is_valid(code):
        raise ValueError(f"{code!r} is not a LOINC code: its check digit is wrong")
    return code


def _mdc(code: str) -> str:
    mdc_number(code)
    return code


def _quantity(name: str) -> str:
    if name not in quantities():
        raise ValueError(f"unknown quantity {name!r}; units.toml has {', '.join(quantities())}")
    return name


def _rate(text: str) -> str:
    try:
        value = rational(text)
    except UnitError as error:
        raise ValueError(str(error)) from error
    if value <= 0 or value > 100_000:
        raise ValueError(f"a sampling rate of {text} Hz is outside (0, 100000]")
    return text


Loinc = Annotated[str, AfterValidator(_loinc)]
Mdc = Annotated[str, AfterValidator(_mdc)]
QuantityName = Annotated[str, AfterValidator(_quantity)]
Rate = Annotated[str, AfterValidator(_rate)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]
SettingName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")]
Local = Annotated[str, Field(pattern=r"^vitalgate:[A-Za-z0-9/._-]+$")]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MdcCode(_File):
    """An ISO/IEEE 11073-10101 code: reference id and partition::term."""

    ref: str
    code: Mdc

    @property
    def number(self) -> int:
        """The 32-bit number that FHIR carries."""
        return mdc_number(self.code)


class CodeFile(_File):
    """One coded value of a metric."""

    title: str
    aliases: list[Word] = []
    snomed: str | None = Field(None, pattern=r"^\d{6,18}$")
    mdc: Mdc | None = None
    loinc_answer: str | None = Field(None, pattern=r"^LA\d+-\d$")
    unusual: bool = False


class PanelFile(_File):
    """The panel that a group of values makes up."""

    title: str
    loinc: Loinc
    mdc: MdcCode


class SiteFile(_File):
    """Codes that are narrower at one site (oral temperature)."""

    loinc: list[Loinc] = []
    mdc: MdcCode | None = None
    mdc_other: list[MdcCode] = []


class MetricFile(_File):
    """One metric: what it means, its unit and its limits (in the canonical unit)."""

    title: str
    quantity: QuantityName | None = Field(None, description="Entry of units.toml; absent for a coded metric.")
    units: list[str] = Field([], description="Units accepted; all of the quantity when empty.")
    codes: str | dict[Word, CodeFile] | None = Field(None, description="Coded values, or a list of vocabulary.toml.")
    resolution: float | None = Field(None, gt=0)
    plausible: tuple[float, float] | None = Field(None, description="Outside: refused as out_of_range.")
    unusual_below: float | None = None
    unusual_at_or_below: float | None = None
    unusual_above: float | None = None
    unusual_at_or_above: float | None = None
    loinc: list[Loinc] = []
    loinc_by_unit: dict[str, Loinc] = {}
    mdc: MdcCode | None = None
    mdc_other: list[MdcCode] = []
    local: Local | None = Field(None, description="Our own code, where no standard one is known.")
    sites: list[Word] = []
    contexts: list[str] = []
    by_site: dict[Word, SiteFile] = {}
    group_of: PanelFile | None = None
    note: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.quantity is None) == (self.codes is None):
            raise ValueError("give either quantity (a number) or codes (a coded value)")
        if self.quantity is None:
            return self
        if self.plausible is None or self.resolution is None:
            raise ValueError("a number needs plausible = [low, high] and resolution")
        if self.plausible[0] >= self.plausible[1]:
            raise ValueError(f"plausible {list(self.plausible)}: the first limit must be below the second")
        if self.unusual_below is not None and self.unusual_at_or_below is not None:
            raise ValueError("give unusual_below or unusual_at_or_below, not both")
        if self.unusual_above is not None and self.unusual_at_or_above is not None:
            raise ValueError("give unusual_above or unusual_at_or_above, not both")
        known = quantities()[self.quantity].units
        for unit in [*self.units, *self.loinc_by_unit]:
            if unit not in known:
                raise ValueError(f"unit {unit!r} is not one of {self.quantity}: {', '.join(known)}")
        return self


class KindMetricFile(_File):
    """A metric that a kind reports, narrowed where this kind is narrower."""

    name: str
    cadence_s: float = Field(0, ge=0, description="Usual time between two values, seconds; 0: when measured.")
    units: list[str] | None = None
    sites: list[Word] | None = None
    contexts: list[str] | None = None
    resolution: float | None = Field(None, gt=0)
    plausible: tuple[float, float] | None = None


class ChannelFile(_File):
    """Waveform channels that share all but their name."""

    names: list[Word] = Field(min_length=1, description="`ecg.` and a lead of vocabulary.toml, or another name.")
    title: str
    quantity: QuantityName
    units: list[str] = []
    rate: Rate = Field(description="Nominal sampling rate, Hz, as a number or a fraction such as 1000/3.")
    rate_min: Rate
    rate_max: Rate
    plausible: tuple[float, float] = Field(description="In the canonical unit; a sample outside: the block is refused.")
    unusual: tuple[float, float] | None = Field(None, description="Samples outside: kept and flagged.")
    loinc: list[Loinc] = []
    mdc: MdcCode | None = None
    local: Local | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not rational(self.rate_min) <= rational(self.rate) <= rational(self.rate_max):
            raise ValueError(f"rate {self.rate} is not between rate_min {self.rate_min} and rate_max {self.rate_max}")
        if self.plausible[0] >= self.plausible[1]:
            raise ValueError(f"plausible {list(self.plausible)}: the first limit must be below the second")
        return self

    def fraction(self) -> Fraction:
        """The nominal rate as a fraction."""
        return rational(self.rate)


class OrderFile(_File):
    """Metrics of one group whose values must rise in this order."""

    metrics: list[str] = Field(min_length=2)
    strict: bool = True


class KindFile(_File):
    """One kind of device."""

    kind: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    description: str
    mdc_profiles: list[MdcCode] = []
    snomed: str | None = Field(None, pattern=r"^\d{6,18}$")
    metrics: list[KindMetricFile] = []
    channels: list[ChannelFile] = []
    ordered: list[OrderFile] = []
    settings: dict[SettingName, Setting] = Field({}, description="What `vitalgate device configure` may set.")
    define: dict[str, MetricFile] = Field({}, description="Metrics that only this kind has.")


class VocabularyFile(_File):
    """Words shared by metrics and kinds."""

    contexts: dict[Word, list[Word]]
    codes: dict[str, dict[Word, CodeFile]]
    leads: dict[str, dict[str, str]]
