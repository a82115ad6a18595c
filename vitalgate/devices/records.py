"""The records that travel between our own processes on internal topics, packed as MessagePack arrays.

All times are integers, microseconds since 1970-01-01T00:00:00Z. Fields are only ever added at the end, so that a
record written by the previous release still decodes (``array_like`` structs fill missing fields with defaults).
"""

from __future__ import annotations

from typing import Literal

import msgspec

NO_SEQ = -1


class Corrects(msgspec.Struct, array_like=True, frozen=True):
    """Which earlier reading a reading corrects: the item it was sent as, or the measurement it stands for."""

    epoch: str = ""
    seq: int = NO_SEQ
    index: int = 0
    """Position of the corrected item in its message."""
    time_us: int | None = None
    """Event time of the corrected measurement, when it is named by time instead of by message."""
    retract: bool = False
    """True: the measurement is taken back and nothing stands in its place."""
    time_sent_us: int | None = None
    """As `time_us`, by the device's own clock; the same as `time_sent_us` of the reading that is meant."""


class Reading(msgspec.Struct, array_like=True):
    """One validated reading, canonical and as sent."""

    item: int
    """Position in its message."""
    metric: str
    site: str
    """Site or channel (finger, left-arm, …); empty when the metric has none."""
    time_us: int
    """Event time: as sent, less the clock skew when that exceeds the tolerance."""
    index: int
    """Position among several values of one metric and site at one time."""
    value_num: float | None
    """In the canonical unit."""
    value_code: str | None
    comparator: str
    """'' or one of < <= > >= (a meter's LO and HI)."""
    absent: str
    """Reason for absence (FHIR data-absent-reason code), or ''."""
    unit: str
    """Canonical UCUM unit, '' for a coded value."""
    value_sent: float | None
    unit_sent: str
    time_sent_us: int
    offset_min: int | None
    """UTC offset of the time as sent, minutes."""
    group: str = ""
    context: dict[str, str] | None = None
    flags: list[str] | None = None
    """Device flags (sensor_off, low_battery, motion, …)."""
    unusual: bool = False
    corrects: Corrects | None = None


class Waveform(msgspec.Struct, array_like=True):
    """One validated block of samples of one channel."""

    item: int
    channel: str
    recording: str
    first_sample: int
    count: int
    start_us: int
    """Event time of the first sample."""
    rate_num: int
    rate_den: int
    """Sampling rate as the rational number rate_num / rate_den, Hz."""
    gain: float
    """Raw units per physical unit: physical = (raw - offset) / gain."""
    offset: float
    unit: str
    samples: bytes
    """Raw samples, int32 little-endian, count * 4 bytes."""
    time_sent_us: int = 0
    offset_min: int | None = None
    flags: list[str] | None = None
    missing: list[tuple[int, int]] | None = None
    """(start, length) stretches inside the block that the device marked as not measured."""


class Status(msgspec.Struct, array_like=True):
    """A device's status message: birth, last will or a periodic report."""

    item: int
    state: str
    """online, offline, or what the device says."""
    time_us: int
    battery: float | None = None
    """Percent."""
    firmware: str = ""
    serial: str = ""
    detail: dict[str, str] | None = None


class Dead(msgspec.Struct, array_like=True):
    """One item that was refused."""

    item: int
    """Position in its message; -1 when the message as a whole was refused."""
    reason: str
    """A `Reason` value."""
    detail: str
    """What was wrong, with the value, the limit and the remedy."""


class Message(msgspec.Struct, array_like=True):
    """What intake made of one raw record. Items = readings + waveforms + status + dead (at least one)."""

    device: str
    leaf: str
    """readings, waveforms or status."""
    offset: int
    """Offset in device.raw."""
    received_us: int
    trace: str
    epoch: str
    """'' when the device numbers nothing."""
    seq: int
    """NO_SEQ when the device numbers nothing."""
    epoch_no: int
    """Order of the epoch among the device's epochs (1, 2, …); 0 for messages without seq."""
    order: int
    """Order within the epoch: seq, or the raw offset for messages without seq."""
    repeat: bool
    """True when this (epoch, seq) had been kept before."""
    skew_s: int
    """Clock skew taken off the times, seconds (device clock minus ours); 0 when within tolerance."""
    payload_hash: bytes
    """BLAKE2b-128 of the payload bytes."""
    content_hash: bytes
    """BLAKE2b-64 of the decoded content without sent_at, the same for JSON and CBOR; empty when undecodable."""
    readings: list[Reading] = []
    waveforms: list[Waveform] = []
    status: Status | None = None
    dead: list[Dead] = []
    payload: bytes = b""
    """The original bytes, only when something was refused."""
    mqtt_topic: str = ""
    sent_us: int | None = None
    replay_of: int | None = None
    """Id of the dead letter that was sent through again."""
    device_kind: str = ""
    declared_lost: list[int] = []
    """Sequence numbers that the device says will never come."""

    def items(self) -> int:
        """How many items the message is accounted as."""
        return len(self.readings) + len(self.waveforms) + (self.status is not None) + len(self.dead)


class ValidatedBatch(msgspec.Struct, array_like=True):
    """Consecutive raw records of one partition: offsets first..last, every one of them present in `messages`."""

    partition: int
    first: int
    last: int
    messages: list[Message]
    by: str = ""
    """Which intake made it (slot and version)."""


class PatientInput(msgspec.Struct, array_like=True):
    """Items of one message that belong to one patient by the assignment in force at measurement time."""

    op: Literal["add", "remove"]
    """remove: an assignment was corrected and these items are no longer this patient's."""
    patient: str
    message: Message
    """With dead, payload and mqtt_topic left empty."""
    cause: str = "live"
    """live, claim, move, reprocess or replay."""
    version: str = ""
    """Version of the sender."""


class Kept(msgspec.Struct, array_like=True):
    """What has been kept of one epoch of a device."""

    epoch: str
    epoch_no: int
    through: int
    """All numbers up to here are kept (or declared lost); first number minus one at the start."""
    beyond: list[tuple[int, int]] = []
    """Closed ranges kept beyond `through`: the gaps are between them."""
    lost: list[tuple[int, int]] = []
    """Closed ranges the device declared lost (the latest 100)."""
    gap_since_us: int = 0
    """Arrival time at which the oldest open gap was first seen; 0 when there is none."""
    zero: bool = False
    """Number 0 has been kept: the prefix begins at 1 and says nothing of it."""


class DeviceSequences(msgspec.Struct, array_like=True):
    """Value of device.sequences, keyed by device: intake's memory of the device, and the source of receipts."""

    device: str
    offset: int
    """Raw offset of the newest message that went in."""
    epochs: list[Kept] = []
    """Newest last; the oldest are dropped beyond 32."""
    updated_us: int = 0
    skew_s: int = 0
    skew_floor_us: list[int] = []
    """`sent` of the newest message, then pairs (received, least received - sent), in us; see devices/clock.py."""
    touched: list[str] = []
    """Epochs that this update is about (a receipt is due for each)."""
    rejected: list[tuple[str, int, str, str]] = []
    """Recent refusals of numbered messages: (epoch, seq, reason, detail), the latest 50."""
    anchors: dict[str, tuple[str, int, int, int, int]] = {}
    """Channels without sample numbers: (recording, next sample, its time in us, rate_num, rate_den)."""
    skew_steps: list[tuple[int, int, int, int]] = []
    """(raw offset, epoch_no, order, skew_s): from which message on which skew held, the latest 16."""
    rejected_us: list[int] = []
    """Arrival time of each entry of `rejected`."""
    repeats: list[int] = []
    """Raw offsets of messages that were repeats, the latest 64, so that re-processing says the same again."""
    recent_blocks: dict[str, list[tuple[int, int, int]]] = {}
    """Channels without sample numbers: (start in us, first sample, count) of the latest 16 blocks."""


_encoder = msgspec.msgpack.Encoder()
_batch = msgspec.msgpack.Decoder(ValidatedBatch)
_input = msgspec.msgpack.Decoder(PatientInput)
_sequences = msgspec.msgpack.Decoder(DeviceSequences)


def encode(record: msgspec.Struct) -> bytes:
    """MessagePack bytes of any of these records."""
    return _encoder.encode(record)


def decode_batch(data: bytes) -> ValidatedBatch:
    """Raises msgspec.DecodeError when the bytes are not a batch."""
    return _batch.decode(data)


def decode_input(data: bytes) -> PatientInput:
    """Raises msgspec.DecodeError when the bytes are not an input."""
    return _input.decode(data)


def decode_sequences(data: bytes) -> DeviceSequences:
    """Raises msgspec.DecodeError when the bytes are not a device's sequences."""
    return _sequences.decode(data)
