"""What a rule would have done: the engine over recorded samples, with a clock that runs along. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vitalgate.alerts.compiling import Zones
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent
from vitalgate.alerts.rule import Rule
from vitalgate.alerts.rules import Book
from vitalgate.devices.records import Message, PatientInput, Reading

_TICK_US = 60 * 1_000_000
_DAY_US = 86400 * 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored reading or feature."""

    patient: str
    time_us: int
    """Event time; of a feature its start."""
    name: str
    """Metric, or name of the feature."""
    value: float | None
    feature: bool = False
    end_us: int = 0
    code: str | None = None
    comparator: str = ""
    device: str = "history"
    device_kind: str = ""
    site: str = ""
    index: int = 0
    flags: tuple[str, ...] = ()
    recording: str = ""
    channel: str = ""
    first_sample: int = 0


@dataclass
class Simulated:
    """What came of it.

    Attributes
    ----------
    alerts
        The last event of each alert that was not taken back.
    days
        Patient-days from each patient's first to last sample, at least one each.
    """

    samples: int = 0
    patients: int = 0
    days: float = 0.0
    alerts: list[AlertEvent] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def per_patient_day(self) -> float:
        """Alerts per patient and day."""
        return len(self.alerts) / self.days if self.days else 0.0


def simulate(
    rule: Rule,
    samples: Iterable[Sample],
    own: Mapping[str, tuple[Mapping[str, Any], Zones]] | None = None,
    cohorts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Simulated:
    """Run one rule over samples in order of time.

    Parameters
    ----------
    own
        By patient: what is their own (see ``profile``) and their time zones.
    cohorts
        Limits of cohorts by name.
    """
    engine = Engine(Book([rule]), "care")
    for cohort, limits in (cohorts or {}).items():
        engine.cohort_changed(cohort, {k: v for k, v in limits.items() if k == rule.id}, 0)
    for patient, (entries, zones) in (own or {}).items():
        concerned = {k: v for k, v in entries.items() if k == rule.id or k.startswith("_")}
        engine.patient_changed(patient, "", concerned, 0, zones)
    done = Simulated()
    spans: dict[str, list[int]] = {}
    last: dict[str, AlertEvent] = {}
    ticked = 0
    for number, sample in enumerate(samples):
        events: list[AlertEvent] = []
        if sample.time_us >= ticked + _TICK_US:
            ticked = sample.time_us
            events += engine.tick(ticked, ticked)
        events += _feed(engine, sample, number)
        done.samples += 1
        stretch = spans.setdefault(sample.patient, [sample.time_us, sample.time_us])
        stretch[1] = max(stretch[1], sample.time_us)
        last.update({event.alert_id: event for event in events})
    newest = max((stretch[1] for stretch in spans.values()), default=0)
    last.update({event.alert_id: event for event in engine.tick(newest, newest)})
    done.patients = len(spans)
    done.days = sum(max(1.0, (b - a) / _DAY_US) for a, b in spans.values())
    done.alerts = sorted((e for e in last.values() if e.state != "retracted"), key=lambda e: (e.onset, e.patient))
    done.trouble = engine.trouble
    return done


def _feed(engine: Engine, sample: Sample, number: int) -> list[AlertEvent]:
    if sample.feature:
        record = {
            "patient": sample.patient, "device_id": sample.device, "recording": sample.recording,
            "channel": sample.channel, "algorithm": "", "name": sample.name, "value": sample.value, "revision": 1,
            "window": {"first_sample": sample.first_sample},
        }  # fmt: skip
        return engine.take_feature(record, sample.time_us, sample.end_us, sample.end_us, sample.end_us)
    reading = Reading(
        0, sample.name, sample.site, sample.time_us, sample.index, sample.value, sample.code, sample.comparator, "", "",
        sample.value, "", sample.time_us, None, flags=list(sample.flags) or None,
    )  # fmt: skip
    message = Message(
        device=sample.device, leaf="readings", offset=number, received_us=sample.time_us, trace="", epoch="", seq=-1,
        epoch_no=0, order=number, repeat=False, skew_s=0, payload_hash=b"", content_hash=b"", readings=[reading],
        device_kind=sample.device_kind,
    )  # fmt: skip
    return engine.take(PatientInput("add", sample.patient, message), sample.time_us)
