"""What a reading says about another one, and how a reading becomes a number that rules can judge."""

from __future__ import annotations

import math

from vitalgate.alerts import codes
from vitalgate.alerts.columns import Ref
from vitalgate.alerts.patient import Patient, Waiting
from vitalgate.devices.identity import message_id
from vitalgate.devices.records import NO_SEQ, Message, Reading

#: Readings with one of these device flags are no measurement of the patient.
UNUSABLE_FLAGS = frozenset({"sensor_off", "lead_off", "no_contact"})
#: Corrections remembered per patient whose measurement has not come yet.
WAITING = 64
EPOCHS = 32


def usable_value(reading: Reading) -> float:
    """The reading's number for the rules, NaN when it has none.

    A code is its place in the order of its codes. A meter's LO (`<`) counts as just below its limit of range, HI
    (`>`) as just above.
    """
    value = reading.value_num
    if reading.absent:
        return math.nan
    if value is None:
        at = None if reading.value_code is None else codes.place(reading.metric, reading.value_code)
        return math.nan if at is None else float(at)
    if reading.flags and not UNUSABLE_FLAGS.isdisjoint(reading.flags):
        return math.nan
    if reading.comparator == "<":
        return math.nextafter(value, -math.inf)
    if reading.comparator == ">":
        return math.nextafter(value, math.inf)
    return value


def value_ref(message: Message, reading: Reading, source: int) -> Ref:
    """Identity and rank of the value that a reading brings.

    Odd items are left to what it takes back, which cannot be named by a correction.
    """
    return Ref(
        reading.time_us, source, reading.index, message.epoch_no, message.order, 2 * reading.item,
        content_number(message.content_hash),
    )  # fmt: skip


def note_epoch(patient: Patient, message: Message) -> None:
    """Remember the number of a device's epoch, by which a later correction may name it."""
    epochs = patient.epochs.setdefault(message.device, {})
    if epochs.get(message.epoch) != message.epoch_no:
        epochs[message.epoch] = message.epoch_no
        patient.dirty = True
        while len(epochs) > EPOCHS:
            epochs.pop(min(epochs, key=lambda name: epochs[name]))


def correct(patient: Patient, key: str | None, message: Message, reading: Reading) -> set[str]:
    """Take back the measurement that a reading corrects; says the keys of the series whose alerts it may concern.

    ``key`` is that of the correcting reading, None when no rule listens to its metric.
    """
    corrects = reading.corrects
    assert corrects is not None
    rank = (message.epoch_no, message.order, 2 * reading.item + 1)
    source = patient.sources.number(message.device, reading.site)
    own = (reading.time_us, source, reading.index)
    if corrects.seq == NO_SEQ:
        target = (reading.time_us if corrects.time_us is None else corrects.time_us, source, reading.index)
        return set() if key is None else _take_back(patient, key, target, rank, corrects.retract, key, own)
    epoch = corrects.epoch or message.epoch
    number = patient.epochs.get(message.device, {}).get(epoch)
    if number is not None:
        for other, series in patient.series.items():
            found = series.named(message.device, number, corrects.seq, 2 * corrects.index)
            if found is not None:
                return _take_back(patient, other, found, rank, corrects.retract, key, own)
    waiting = Waiting(message.device, epoch, corrects.seq, corrects.index, rank, corrects.retract, key or "", own)
    if waiting not in patient.waiting:
        patient.waiting.append(waiting)
        del patient.waiting[:-WAITING]
        patient.dirty = True
    return set()


def waited_for(patient: Patient, key: str, message: Message, reading: Reading) -> set[str]:
    """Apply corrections that came before the measurement that they are about; says the keys as ``correct`` does."""
    touched: set[str] = set()
    for waiting in list(patient.waiting):
        if (waiting.device, waiting.epoch, waiting.order, waiting.item) == (
            message.device, message.epoch, message.order, reading.item,
        ):  # fmt: skip
            patient.waiting.remove(waiting)
            patient.dirty = True
            target = (reading.time_us, patient.sources.number(message.device, reading.site), reading.index)
            touched |= _take_back(patient, key, target, waiting.rank, waiting.retract, waiting.key, waiting.own)
    return touched


def _take_back(
    patient: Patient,
    key: str,
    target: tuple[int, int, int],
    rank: tuple[int, int, int],
    retract: bool,
    own_key: str | None,
    own: tuple[int, int, int],
) -> set[str]:
    if (key, target) == (own_key, own) and not retract:
        # The new value is a version of the same measurement; that is enough.
        return set()
    outcome = patient.series_of(key).put(Ref(*target, *rank), math.nan)
    patient.dirty |= outcome.changed or bool(outcome.alarm)
    return {key} if outcome.alarm else set()


def message_name(patient: Patient, ref: Ref) -> str:
    """Id of the message that brought a sample, the same as on the public topics."""
    device = patient.sources.names[ref.source][0]
    epochs = patient.epochs.get(device, {})
    epoch = next((name for name, number in epochs.items() if number == ref.epoch), "")
    content = ref.content.to_bytes(8, "big", signed=True)
    return message_id(device, epoch, ref.order if ref.epoch else NO_SEQ, content, b"")


def content_number(content: bytes) -> int:
    """A message's content hash (8 bytes) as a number."""
    return int.from_bytes(content[:8], "big", signed=True)
