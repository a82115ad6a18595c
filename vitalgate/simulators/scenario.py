"""A scenario: who, with which devices, what happens when, and what must come of it. A data file, validated here.

``docs/scenarios.md`` describes the format; the shipped ones are in ``scenarios/``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitalgate.simulators.physiology import VITALS, Body

SHIPPED = Path(__file__).with_name("scenarios")

Points = list[tuple[float, float]]


class ScenarioError(Exception):
    """A scenario cannot be used; the text names the file, the place in it and the remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceOf(_Part):
    """One device of a patient."""

    kind: str = Field(description="A kind of the catalogue.")
    name: str = Field("", description="Its name in this scenario; the kind when there is one of a kind.")
    every: float | None = Field(None, description="Seconds between measurements; the kind's cadence otherwise.", gt=0)
    first: float | None = Field(None, description="Seconds until the first measurement.", ge=0)
    metrics: list[str] = Field([], description="Only these metrics of the kind; all of them when empty.")
    waveforms: bool = Field(True, description="Whether it sends its waveforms.")
    packet_s: float | None = Field(None, description="Seconds of waveform in one packet.", gt=0, le=60)
    strip_s: float | None = Field(None, description="Seconds of a strip, for kinds that record strips.", gt=0, le=60)
    wire: Literal["json", "cbor", "mixed"] = Field("mixed", description="How payloads are encoded.")
    numbered: bool = Field(True, description="False: no epoch and seq, so no receipts.")
    clock_ahead_s: float = Field(0.0, description="How far its clock is ahead of the right time.")
    sent_at: bool = Field(True, description="Whether messages say when they were sent (real time only).")
    assigned: bool = Field(True, description="False: nobody's device until an event hands it over.")
    site: str = Field("", description="Where it sits, for metrics that have a site.")
    units: dict[str, str] = Field({}, description="Unit of a metric, where it is not the canonical one.")


class ChangeOf(_Part):
    """A hand on one vital sign; times are seconds since the start of the scenario."""

    what: str
    set: Points | None = Field(None, description="The value itself.")
    add: Points | None = Field(None, description="Added to what it would have been.")

    @model_validator(mode="after")
    def _one_of_both(self) -> ChangeOf:
        if self.what not in VITALS:
            raise ValueError(f"what = {self.what!r} cannot be changed; one of {', '.join(VITALS)} can")
        if (self.set is None) == (self.add is None):
            raise ValueError(f"the change of {self.what} needs either `set` or `add`, each a list of [seconds, value]")
        points = self.set or self.add or []
        if not points or [at for at, _ in points] != sorted(at for at, _ in points):
            raise ValueError(f"the points of the change of {self.what} must be at least one, in order of time")
        return self


class RhythmOf(_Part):
    """A stretch of another heart rhythm."""

    kind: Literal["af", "pause", "ectopy"]
    at: float = Field(ge=0)
    seconds: float = Field(gt=0)
    share: float = Field(0.1, gt=0, le=0.4)


class PatientOf(_Part):
    """One patient, or several alike (`count`)."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,30}$")
    count: int = Field(1, ge=1, le=5000)
    team: str = Field("care", pattern=r"^[a-z0-9-]{1,40}$")
    zone: str = "Europe/Berlin"
    body: dict[str, float] = {}
    devices: list[DeviceOf] = []
    changes: list[ChangeOf] = []
    rhythms: list[RhythmOf] = []

    @model_validator(mode="before")
    @classmethod
    def _short_devices(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("devices"), list):
            devices = [{"kind": item} if isinstance(item, str) else item for item in value["devices"]]
            return {**value, "devices": devices}
        return value

    @model_validator(mode="after")
    def _names(self) -> PatientOf:
        unknown = set(self.body) - set(Body.__dataclass_fields__)
        if unknown:
            known = ", ".join(Body.__dataclass_fields__)
            raise ValueError(f"a body has no {', '.join(sorted(unknown))}; it has {known}")
        seen: set[str] = set()
        for device in self.devices:
            label = device.name or device.kind
            if label in seen:
                raise ValueError(f"patient {self.name} has two devices called {label}; give one a `name`")
            seen.add(label)
        return self


Happening = Literal[
    "offline", "flaky", "resend", "repeat", "correct", "retract", "garbage", "sensor-off", "low-battery", "hand-over",
]  # fmt: skip


class EventOf(_Part):
    """Something that happens to a device."""

    at: float = Field(ge=0, description="Seconds since the start.")
    device: str = Field(description="`patient/device`, or `patient` for all of its devices, or `*` for all there are.")
    do: Happening
    seconds: float = Field(0.0, ge=0, description="How long (offline, flaky, sensor-off).")
    every: float = Field(5.0, gt=0, description="Seconds from one cut to the next (flaky).")
    count: int = Field(1, ge=1, description="How many messages (resend, repeat, correct, retract, garbage).")
    metric: str = Field("", description="Which metric (correct, retract); the first of the message otherwise.")
    value: float | None = Field(None, description="The right value (correct).")
    change: float | None = Field(None, description="Added to the value (correct).")
    what: str = Field("", description="Which garbage; `docs/scenarios.md` lists them.")
    to: str = Field("", description="The patient that gets the device (hand-over); empty takes it away.")
    from_s: float | None = Field(None, description="Since when it was that patient's (hand-over); `at` otherwise.")

    @model_validator(mode="after")
    def _complete(self) -> EventOf:
        if self.do in ("offline", "flaky", "sensor-off") and self.seconds <= 0:
            raise ValueError(f"{self.do} at {self.at} needs `seconds` above 0")
        if self.do == "correct" and (self.value is None) == (self.change is None):
            raise ValueError(f"correct at {self.at} needs either `value` or `change`")
        if self.do == "garbage" and not self.what:
            raise ValueError(f"garbage at {self.at} needs `what`; docs/scenarios.md lists what there is")
        return self


class AlertOf(_Part):
    """An alert that must be raised."""

    patient: str
    rule: str
    priority: Literal["high", "medium", "low"]
    onset: float = Field(description="Seconds since the start.")
    tolerance: float = Field(5.0, gt=0)
    cleared: bool | None = Field(None, description="Whether it must be cleared, or still open, at the end.")
    retracted: bool = Field(False, description="True: raised, and taken back later.")
    hindsight: bool | None = None
    times: int = Field(1, ge=1, description="How many of this patient and rule; onset is then the first's.")


class Expected(_Part):
    """What must come of it: these alerts and no others, and these counts."""

    alerts: list[AlertOf] = []
    other_alerts: bool = Field(False, description="True: further alerts are no fault.")
    duplicate: int | None = Field(None, description="Items that are repeats, beside those of the resending itself.")
    dead_lettered: dict[str, int] = Field({}, description="Items refused, by reason; none when empty.")
    versions: int | None = Field(None, description="Further versions stored (corrections).")
    gaps: int = Field(0, description="Devices whose numbering has an open gap at the end.")


class Scenario(_Part):
    """The whole file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    title: str
    seconds: float = Field(gt=0, le=90 * 86400)
    speed: float = Field(1.0, ge=1, description="Virtual seconds in a second, unless --speed says otherwise.")
    ticks: Literal["wall", "virtual"] = Field(
        "wall", description="virtual: the run publishes the ticks that carry time to alerting (clock.source=kafka)."
    )
    patients: list[PatientOf] = Field(min_length=1)
    events: list[EventOf] = []
    expect: Expected = Expected.model_validate({})

    @model_validator(mode="after")
    def _references(self) -> Scenario:
        names = [patient.name for patient in self.patients]
        if len(set(names)) != len(names):
            raise ValueError("two patients have the same name")
        by_name = {patient.name: patient for patient in self.patients}
        for event in self.events:
            patient, _, device = event.device.partition("/")
            if event.device == "*":
                continue
            if patient not in by_name:
                raise ValueError(f"the event at {event.at} is about patient {patient!r}; there are {', '.join(names)}")
            owned = [each.name or each.kind for each in by_name[patient].devices]
            if device and device not in owned:
                raise ValueError(f"patient {patient!r} has no device {device!r}; it has {', '.join(owned)}")
            if event.do == "hand-over" and event.to and event.to not in by_name:
                raise ValueError(f"hand-over at {event.at}: no patient {event.to!r}; there are {', '.join(names)}")
        for alert in self.expect.alerts:
            if alert.patient not in by_name:
                raise ValueError(f"expect.alerts: no patient {alert.patient!r}; there are {', '.join(names)}")
        return self


def shipped() -> list[str]:
    """Names of the scenarios that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load(name_or_file: str, kinds: Mapping[str, object] | None = None) -> Scenario:
    """A shipped scenario by name, or any file.

    Parameters
    ----------
    name_or_file
        A name of `shipped()`, or the path of a TOML file.
    kinds
        The catalogue's kinds by name, to check that every device's kind exists.

    Raises
    ------
    ScenarioError
        When there is no such scenario, or the file is not one.
    """
    path = SHIPPED / f"{name_or_file}.toml"
    if not path.is_file():
        path = Path(name_or_file)
    if not path.is_file():
        raise ScenarioError(
            f"there is no scenario {name_or_file!r}: it is neither a file nor one of {', '.join(shipped())}"
        )
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path} cannot be read as TOML: {error}") from error
    return check(document, str(path), kinds)


def check(document: Mapping[str, Any], where: str, kinds: Mapping[str, object] | None = None) -> Scenario:
    """Validate a scenario's document; `where` names it in errors. Raises ScenarioError with every fault found."""
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        faults = []
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"]) or "the file"
            faults.append(f"  {place}: {item['msg'].removeprefix('Value error, ')}")
        raise ScenarioError(f"{where} is not a usable scenario:\n" + "\n".join(faults)) from error
    if kinds is not None:
        wrong = sorted({d.kind for p in scenario.patients for d in p.devices} - set(kinds))
        if wrong:
            raise ScenarioError(
                f"{where} is not a usable scenario:\n  no device kind {', '.join(wrong)};"
                f" there are {', '.join(sorted(kinds))}"
            )
    return scenario
