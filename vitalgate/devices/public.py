"""The public records of device data and of the registry, as consumers may rely on them.

JSON Schemas are generated from these models. They evolve by addition only; a consumer ignores keys it does not know.
Times are RFC 3339 in UTC. Models of alerts and of the audit trail are in their own rooms.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DeviceId = Annotated[str, Field(description="Device id; the MQTT user name and the record's key.", examples=["ox-1"])]
PatientId = Annotated[str, Field(description="Opaque patient id.", examples=["p-0001"])]
MessageId = Annotated[
    str,
    Field(description="Id made from the content of the device message: the same for every repeat. Drop repeats by it."),
]
Trace = Annotated[str, Field(description="Trace id, 32 hexadecimal digits; the same in logs and in every record.")]
Received = Annotated[datetime, Field(description="When the gateway received the message.")]
Epoch = Annotated[str, Field(description="Epoch of the device's counter; '' when the device numbers nothing.")]
Seq = Annotated[int | None, Field(description="Sequence number in the epoch; null when the device numbers nothing.")]
Item = Annotated[int, Field(description="Position of the item in its message, from 0.")]
Flags = Annotated[list[str], Field(description="Device flags such as sensor_off, low_battery, motion.")]
Ucum = Annotated[str, Field(description="UCUM unit.", examples=["%", "/min", "mm[Hg]", "mV"])]
Rate = Annotated[
    str, Field(description="Sampling rate in Hz, a rational number.", examples=["250/1"], pattern=r"^\d+/\d+$")
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReadingEntry(_Record):
    """One stored version of a measurement."""

    metric: str = Field(description="Metric of the device catalogue.", examples=["spo2"])
    site: str = Field(description="Site (finger, left-arm, …); '' when none was said.")
    index: int = Field(description="Position among several values of one metric and site at one time.")
    time: datetime = Field(description="When it was measured: the device's time less its clock skew.")
    version: int = Field(description="1, 2, … in the device's own order; each is another value of the measurement.")
    current: bool = Field(description="True for the version that stands.")
    value: float | None = Field(description="In the canonical unit; null for a coded, absent or retracted value.")
    code: str | None = Field(description="Coded value, null for a number.")
    comparator: str = Field(description="'' or one of < <= > >= : the meter's LO and HI.")
    absent: str = Field(description="Why there is no value (FHIR data-absent-reason), or ''.")
    unit: str = Field(description="Canonical UCUM unit of `value`; '' for a coded value.")
    value_sent: float | None = Field(description="Value as the device sent it.")
    unit_sent: str = Field(description="Unit as the device sent it.")
    time_sent: datetime = Field(description="Time by the device's own clock.")
    group: str = Field(description="What several values of one measurement share; '' when there is none.")
    context: dict[str, str] = Field(description="Position, meal, activity, ….")
    flags: Flags
    unusual: bool = Field(description="Outside the metric's unusual limits: plausible, and worth a look.")
    retracted: bool = Field(description="True: the device took the measurement back.")
    epoch: Epoch
    seq: Seq
    item: Item


class DeviceReadings(_Record):
    """Stored readings of one device message (device.readings)."""

    device_id: DeviceId
    message_id: MessageId
    trace: Trace
    received_at: Received
    readings: list[ReadingEntry] = Field(
        description="What the message stored, and other versions whose number or `current` it changed."
    )


class DeviceWaveform(_Record):
    """One stored block of waveform samples (device.waveforms)."""

    device_id: DeviceId
    message_id: MessageId
    trace: Trace
    received_at: Received
    channel: str = Field(description="Channel of the device catalogue.", examples=["ecg.II", "pleth"])
    recording: str = Field(description="Recording whose samples are numbered from 0.")
    first_sample: int = Field(description="Number of the first sample in its recording.")
    count: int = Field(description="Number of samples.")
    version: int = Field(description="1, 2, … in the device's own order; a higher one stands for its samples.")
    start: datetime = Field(description="Time of the first sample; it only anchors, continuity is by number.")
    rate: Rate
    gain: float = Field(description="Raw units per `unit`: physical = (raw - offset) / gain.")
    offset: float = Field(description="Raw value of physical zero.")
    unit: Ucum
    samples: list[int] = Field(description="Raw samples.")
    missing: list[tuple[int, int]] = Field(description="(start, length) stretches in the block not measured.")
    flags: Flags
    epoch: Epoch
    seq: Seq
    item: Item


class RawPlace(_Record):
    """Where a raw record is."""

    partition: int = Field(description="Partition of device.raw.")
    offset: int = Field(description="Offset in it.")


class DeadLetter(_Record):
    """An item, or a whole message, that was refused (device.deadletter)."""

    id: str = Field(description="raw partition - raw offset - item.", examples=["2-1043-0", "2-1044--1"])
    device_id: DeviceId
    reason: str = Field(description="Reason code; docs/reasons.md has a sentence for each.", examples=["out_of_range"])
    detail: str = Field(description="What was wrong, with the value, the limit and the remedy.")
    item: int = Field(description="Position in its message; -1 when the message as a whole was refused.")
    mqtt_topic: str = Field(description="MQTT topic it came on.")
    received_at: Received
    payload_base64: str = Field(description="The original bytes of the whole message.")
    payload_hash: str = Field(description="BLAKE2b-128 of these bytes, hexadecimal.")
    epoch: Epoch
    seq: Seq
    raw: RawPlace


class Device(_Record):
    """A registered device (registry.devices, compacted)."""

    device: DeviceId
    kind: str = Field(description="Kind of the device catalogue.", examples=["pulse-oximeter"])
    state: Literal["active", "revoked"] = Field(description="revoked: refused by the broker and by intake.")
    serial: str = Field(description="Serial number, or ''.")
    firmware: str = Field(description="Firmware version, or ''.")
    credential_hash: str = Field(description="Salted hash of the password.")
    sample_rate: float | str | None = Field(None, description="Rate of its waveforms where blocks bear none, Hz.")
    revoked_at: datetime | None = Field(None, description="When it was revoked.")
    settings: dict[str, str | int | float | bool] | None = Field(
        None, description="What the operator wishes it to do; null where nothing was ever set."
    )
    settings_revision: int | None = Field(None, description="Rises with every change of the settings.")
    updated_at: datetime = Field(description="When this entry was made.")
    change: int = Field(description="Rises with every change of the registry.")


class Assignment(_Record):
    """Who had a device when."""

    id: int = Field(description="Id of the assignment.")
    patient: PatientId
    from_: datetime = Field(alias="from", description="Beginning, included.")
    to: datetime | None = Field(None, description="End, excluded; null while it lasts.")


class DeviceAssignments(_Record):
    """All assignments of a device (registry.assignments, compacted)."""

    device: DeviceId
    change: int = Field(description="Rises with every change of the registry.")
    assignments: list[Assignment] = Field(description="By beginning; they do not overlap.")


class Zone(_Record):
    """The time zone a patient lives in from some moment on."""

    from_: datetime | None = Field(None, alias="from", description="Beginning; null for always.")
    zone: str = Field(description="IANA name.", examples=["Europe/Berlin"])


class Patient(_Record):
    """A patient (registry.patients, compacted)."""

    patient: PatientId
    change: int = Field(description="Rises with every change of the registry.")
    zones: list[Zone] = Field(description="Time zones by beginning: they decide local days.")
    team: str = Field(description="Care team that gets the alerts.")
    overrides: dict[str, object] = Field({}, description="Alert limits of this patient's own.")


class Clinician(_Record):
    """Somebody who looks after patients (registry.clinicians, compacted)."""

    clinician: str = Field(description="User name on the broker.", examples=["anna"])
    name: str = Field(description="As people call them, or ''.")
    state: Literal["active", "revoked"] = Field(description="revoked: refused by the broker.")
    teams: list[str] = Field(description="Care teams whose alerts they see and answer.")
    credential_id: str = Field(description="Another one with each password; says nothing about it.")
    revoked_at: datetime | None = Field(None, description="When access was taken away.")
    updated_at: datetime = Field(description="When this entry was made.")
    change: int = Field(description="Rises with every change of the registry.")


class Beat(_Record):
    """One heart beat."""

    sample: int = Field(description="Number of the R peak's sample in the recording.")
    time: datetime = Field(description="Time of the R peak.")
    kind: str = Field(description="AAMI EC57 class: N, S, V, F or Q.", examples=["N"])
    rr_ms: float | None = Field(None, description="Time since the beat before, ms; null after a gap.")


class BeatInputs(_Record):
    """What a block of beats was computed from."""

    present: int = Field(description="Samples of the block that were there.")
    runs: list[tuple[int, int]] = Field(
        [], description="Which: stretches [from, to) of samples, counted from the block's first."
    )


class PatientBeats(_Record):
    """All beats of one block of one recording and channel, replaced whole (patient.beats)."""

    patient: PatientId
    device_id: DeviceId
    channel: str = Field(description="Channel, such as ecg.II.")
    recording: str = Field(description="Recording.")
    algorithm: str = Field(description="Name of the detector.")
    algorithm_version: str = Field(description="Its version.")
    block: int = Field(description="Number of the block: samples [block * length, (block + 1) * length).")
    first_sample: int = Field(description="First sample of the block.")
    stop_sample: int = Field(description="The sample after its last.")
    rate: Rate
    start: datetime = Field(description="Time of the first sample.")
    revision: int = Field(description="A higher revision replaces all beats of the block.")
    final: bool = Field(description="True: computed with all that the detector looks at.")
    inputs: BeatInputs
    quality: str | None = Field(None, description="Grade of the signal: good, usable or bad.")
    reason: str | None = Field(None, description="Why the signal is not good; null when it is.")
    believed: bool = Field(True, description="False: the signal is too poor for features to be told from its beats.")
    classifier: str | None = Field(None, description="Name and version of what told the beats' kinds.")
    fibrillation: list[tuple[int, int, float]] = Field(
        [], description="Ventricular fibrillation or flutter: [first sample, sample after the last, waves per minute]."
    )
    baseline: list[int] = Field(
        [], description="Mean of each quarter of a second in 0.01 mV; -32768 where it is not known."
    )
    beats: list[Beat] = Field(description="By sample; empty when there are none.")


class SampleWindow(_Record):
    """Samples [first_sample, stop_sample) of a recording."""

    first_sample: int = Field(description="First sample.")
    stop_sample: int = Field(description="The sample after the last.")


class PatientFeature(_Record):
    """One computed quantity or rhythm event, replaced by its window (patient.features)."""

    patient: PatientId
    device_id: DeviceId
    channel: str = Field(description="Channel it was computed from.")
    recording: str = Field(description="Recording.")
    rate: Rate
    name: str = Field(description="What it is.", examples=["heart_rate", "hrv.rmssd", "event.pause"])
    window: SampleWindow
    start: datetime = Field(description="Time of the window's first sample, or the event's onset.")
    end: datetime = Field(description="Time of the window's end, or the event's.")
    value: float | None = Field(description="In `unit`; null when it could not be computed.")
    unit: Ucum
    algorithm: str = Field(description="Name of the algorithm.")
    algorithm_version: str = Field(description="Its version.")
    revision: int = Field(description="A higher revision replaces a lower one of the same window.")
    withdrawn: bool = Field(False, description="True: recomputed, and no longer so.")
    provisional: bool = Field(
        False, description="True: told before all samples were there; replaced or withdrawn when they are; not stored."
    )
    reason: str | None = Field(None, description="Of quality: why the signal is not good.")


#: The model of each public topic that this room describes, by base topic name.
MODELS: dict[str, type[BaseModel]] = {
    "device.readings": DeviceReadings,
    "device.waveforms": DeviceWaveform,
    "device.deadletter": DeadLetter,
    "registry.devices": Device,
    "registry.assignments": DeviceAssignments,
    "registry.patients": Patient,
    "registry.clinicians": Clinician,
    "patient.beats": PatientBeats,
    "patient.features": PatientFeature,
}
