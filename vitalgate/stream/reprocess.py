"""Run history again: stored items out of the database and once more onto patient.inputs, with cause `reprocess`.

What is worked out from them bears a higher revision than before and takes the place of the earlier result, in topics
and tables; a result that comes out the same is not told again. Rows of readings and waveforms are not touched.
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import vitalgate
from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.devices.records import Message, encode
from vitalgate.gateway.confirmed import ConfirmedProducer, Record
from vitalgate.signal import beats as detector
from vitalgate.storage.moves import items
from vitalgate.storage.publics import micros
from vitalgate.storage.registry import Assignment, Registry
from vitalgate.storage.registry_user import user
from vitalgate.stream.analysis_features import ALGORITHM, ALGORITHM_VERSION
from vitalgate.stream.audit_inbox import audit_body
from vitalgate.stream.outputs import inputs

#: What each choice runs again. Features are made from beats, so both ECG algorithms take the waveforms.
ALGORITHMS = {detector.NAME: "waveforms", ALGORITHM: "waveforms", "alerts": "readings"}
VERSIONS = {detector.NAME: detector.VERSION, ALGORITHM: ALGORITHM_VERSION}
_SEND = 200


@dataclass
class Summary:
    """What was sent again."""

    devices: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    messages: int = 0
    readings: int = 0
    samples: int = 0
    algorithms: dict[str, str] = field(default_factory=dict)
    """Name and version that the results will bear."""


def reprocess(
    settings: Settings,
    start: datetime,
    stop: datetime,
    *,
    patient: str | None = None,
    algorithm: str | None = None,
    tell: Callable[[Summary], None] = lambda _: None,
) -> Summary:
    """Send stored items with event times in [start, stop) through the workers again.

    Parameters
    ----------
    patient
        Only this patient's.
    algorithm
        One of ``ALGORITHMS``; by default those that take waveforms.
    tell
        Called after each portion that Kafka has acknowledged.

    Raises
    ------
    ValueError
        When the stretch is empty or the algorithm unknown.
    vitalgate.storage.errors.StorageError
        When the database cannot be read: call again, repeats do no harm.
    vitalgate.gateway.confirmed.NotDelivered
        When Kafka did not acknowledge: likewise.
    """
    if stop <= start:
        raise ValueError(f"the stretch ends at {stop.isoformat()}, not after its start {start.isoformat()}")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is unknown; one of {', '.join(ALGORITHMS)} is")
    what = ALGORITHMS[algorithm] if algorithm else "waveforms"
    summary = Summary(algorithms=VERSIONS if what == "waveforms" else {})
    with Registry(settings.database) as registry:
        assignments = [a for a in registry.assignments() if _overlaps(a, start, stop)]
    wanted = sorted({a.device_id for a in assignments if patient in (None, a.patient_id)})
    producer = ConfirmedProducer(settings.kafka, "vg-reprocess")
    by = f"reprocess {vitalgate.__version__}"
    try:
        for device in wanted:
            at = _patient_at([a for a in assignments if a.device_id == device])
            for batch in items(
                settings.database, device, start, stop, readings=what == "readings", waveforms=what == "waveforms"
            ):
                for portion in _portions(batch):
                    records = list(_records(portion, at, patient, by, summary))
                    if records:
                        producer.send(records)
            summary.devices.append(device)
            tell(summary)
        producer.send([_audit(start, stop, patient, algorithm, summary)])
    finally:
        producer.close()
    return summary


def _overlaps(assignment: Assignment, start: datetime, stop: datetime) -> bool:
    return assignment.start < stop and (assignment.stop is None or assignment.stop > start)


def _patient_at(assignments: list[Assignment]) -> Callable[[str, int], str | None]:
    ranges = [(micros(a.start), None if a.stop is None else micros(a.stop), a.patient_id) for a in assignments]

    def at(_device: str, time_us: int) -> str | None:
        return next((p for low, high, p in ranges if low <= time_us and (high is None or time_us < high)), None)

    return at


def _portions(batch: list[Message]) -> Iterator[list[Message]]:
    for begin in range(0, len(batch), _SEND):
        yield batch[begin : begin + _SEND]


def _records(
    messages: list[Message], at: Callable[[str, int], str | None], patient: str | None, by: str, summary: Summary
) -> Iterator[Record]:
    for message in messages:
        for found in inputs(message, at, cause="reprocess", version=by):
            if patient not in (None, found.patient):
                continue
            value = encode(found)
            yield Record(
                topics.INPUTS, found.patient, value, hashlib.blake2b(value, digest_size=16).hexdigest(), message.trace
            )
            if found.patient not in summary.patients:
                summary.patients.append(found.patient)
            summary.messages += 1
            summary.readings += len(found.message.readings)
            summary.samples += sum(w.count for w in found.message.waveforms)


def _audit(start: datetime, stop: datetime, patient: str | None, algorithm: str | None, summary: Summary) -> Record:
    event_id = str(uuid.uuid4())
    detail = {
        "from": start.isoformat(), "to": stop.isoformat(), "algorithm": algorithm or "all",
        **{key: value for key, value in asdict(summary).items() if key not in ("patients", "devices")},
        "devices": len(summary.devices), "patients": len(summary.patients),
    }  # fmt: skip
    entity = ("patient" if patient else "history", patient or "all")
    now, where = datetime.now(UTC), f"{socket.gethostname()}/reprocess"
    value = audit_body(event_id, user(), "history.reprocessed", entity, now, where, detail)
    return Record(topics.AUDIT_INBOX, None, value, event_id.replace("-", ""))
