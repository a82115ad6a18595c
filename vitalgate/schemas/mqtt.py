"""What devices and Vitalgate say to each other over MQTT, as models from which JSON Schemas are made.

They describe; the judge of a message is `vitalgate.devices.validate`, which also knows the kind of the device and gives
each refusal its reason. The pages for people are docs/mqtt.md (bytes) and docs/kinds.md (metrics, units, limits). CBOR
messages have the same shape, with samples as a typed array (RFC 8746) or a packed byte string.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, RootModel

from vitalgate.devices.blocks import MAX_MISSING
from vitalgate.devices.envelope import MAX_LOST, MAX_NUMBER
from vitalgate.devices.readings import ABSENT, COMPARATORS, MAX_FLAGS, MAX_INDEX
from vitalgate.devices.reasons import Reason
from vitalgate.devices.statuses import MAX_DETAILS

_ITEMS_MOST = 1000
#: RFC 3339 with an offset. Fractions may have any number of digits; up to microseconds are kept.
Time = Annotated[AwareDatetime, Field(description="RFC 3339 with a UTC offset or Z.")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Flags = Annotated[list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]], Field(max_length=MAX_FLAGS)]


def _words(*words: str | None) -> dict[str, JsonValue]:
    return {"enum": [*sorted(words, key=str)]}


class _Open(BaseModel):
    """Keys that are not known are ignored around the items."""

    model_config = ConfigDict(extra="allow")


class _Item(BaseModel):
    """Inside an item an unknown key refuses the item; keys of your own begin with x_."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"patternProperties": {"^x[_-]": True}})


class _Envelope(_Open):
    epoch: Name | None = Field(None, description="A random word, new whenever the counter starts over.")
    seq: Number | None = Field(None, description="Counts up by one with every message of the epoch; needs `epoch`.")
    sent_at: Time | None = Field(None, description="The device's clock at this very sending.")
    lost: list[Number] | None = Field(
        None, max_length=MAX_LOST, description="Numbers of this epoch that will never come."
    )
    device_id: str | None = Field(None, description="May be there; must be the device of the topic.")


class Corrects(BaseModel):
    """Which measurement is corrected or taken back: by message (`seq`) or by time, not both."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"oneOf": [{"required": ["seq"]}, {"required": ["time"]}]}
    )
    epoch: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="This message's if left out."
    )
    seq: Number | None = None
    index: int | None = Field(None, ge=0, le=MAX_INDEX, description="Position in that message.")
    time: Time | None = None
    retract: bool | None = Field(None, description="Take it back; the reading has no value then.")


class Reading(_Item):
    """One reading. Exactly one of `value`, `code` and `absent`, but for what is taken back, which has none."""

    metric: str = Field(description="What was measured; docs/kinds.md lists each kind's.")
    value: float | str | None = Field(None, description="A number; for a coded metric its code.")
    unit: str | None = Field(None, description="UCUM; required with a number.")
    time: Time | None = Field(None, description="When it was measured, by the device's clock; required with a value.")
    code: str | None = Field(None, description="Instead of `value`: a coded value.")
    absent: str | None = Field(
        None, json_schema_extra=_words(None, *ABSENT), description="Instead of `value`: a FHIR data-absent-reason."
    )
    comparator: str | None = Field(
        None, json_schema_extra=_words(None, *COMPARATORS), description="A meter's LO and HI: the value is its limit."
    )
    site: str | None = Field(None, description="Where on the body; part of what is measured.")
    index: int | None = Field(None, ge=0, le=MAX_INDEX, description="Among several values at one time.")
    group: str | None = Field(None, min_length=1, max_length=64, description="The same for values of one measurement.")
    context: dict[str, str] | None = Field(None, description="position, activity, meal, … as the metric allows.")
    flags: Flags | None = Field(None, description="sensor_off, low_battery, motion, …")
    corrects: Corrects | None = None


class Waveform(_Item):
    """One block of samples."""

    channel: str = Field(description="ecg.I … ecg.V6, pleth, respiration: see the kind.")
    samples: list[Annotated[int, Field(ge=-(2**31), lt=2**31)] | None] = Field(
        min_length=1, description="Raw integers; null where nothing was measured."
    )
    start: Time = Field(description="Time of the first sample; it only anchors.")
    rate: float | str | None = Field(None, description="Hz, or a text such as 1000/3; the registry's when left out.")
    gain: float = Field(gt=0, lt=1e12, description="Raw units per `unit`: physical = (raw - offset) / gain.")
    offset: float = Field(0, ge=-(2**32), le=2**32, description="Raw value of physical zero.")
    unit: str = Field(description="UCUM: mV or uV for an ECG, 1 for pleth.")
    recording: Name | None = Field(None, description="Which recording; goes together with `first_sample`.")
    first_sample: Number | None = Field(None, description="Number of the block's first sample in the recording.")
    missing: list[tuple[Number, Annotated[int, Field(ge=1)]]] | None = Field(
        None, max_length=MAX_MISSING, description="Stretches of the block that were not measured: [start, length]."
    )
    flags: Flags | None = None


class _Readings(_Envelope):
    readings: list[Reading] = Field(min_length=1, max_length=_ITEMS_MOST)


class _Waveforms(_Envelope):
    waveforms: list[Waveform] = Field(min_length=1, max_length=_ITEMS_MOST)


class _BareReading(_Envelope, Reading):
    model_config = _Item.model_config


class _BareWaveform(_Envelope, Waveform):
    model_config = _Item.model_config


class _Lost(_Envelope):
    epoch: Name
    lost: list[Number] = Field(min_length=1, max_length=MAX_LOST)


class Readings(RootModel[_Readings | _BareReading | _Lost]):
    """Published by a device on v1/devices/{device}/readings, QoS 1. One reading may stand in the message itself."""


class Waveforms(RootModel[_Waveforms | _BareWaveform | _Lost]):
    """Published by a device on v1/devices/{device}/waveforms, QoS 1. One block may stand in the message itself."""


class Status(_Envelope):
    """Published by a device on v1/devices/{device}/status: birth, last will, or a report now and then."""

    state: str = Field(min_length=1, max_length=40, description="online, offline, or a word of the device's.")
    time: Time | None = Field(None, description="The arrival's when left out.")
    battery: float | None = Field(None, ge=0, le=100, description="Percent.")
    firmware: str | None = Field(None, min_length=1, max_length=64)
    serial: str | None = Field(None, min_length=1, max_length=64)
    detail: dict[str, str | float | bool] | None = Field(None, max_length=MAX_DETAILS)


class Refusal(_Open):
    """One refused message or item."""

    seq: int
    reason: str = Field(json_schema_extra=_words(*Reason), description="docs/reasons.md says what to do.")
    detail: str = Field(description="The value, the limit and the remedy.")


class Receipt(_Open):
    """Published by Vitalgate on v1/devices/{device}/receipts: what of the device's numbered messages is kept."""

    epoch: str
    kept_through: int = Field(description="Every number up to here is kept.")
    beyond: list[list[int]] = Field([], description="Kept beyond a hole: [first, last] each.")
    rejected: list[Refusal] = []


class DownTime(_Open):
    """The time, in answer to a status message; QoS 0, not retained."""

    type: Literal["time"]
    time: Time = Field(description="The server's clock when the answer left it.")
    received_at: Time = Field(description="The server's clock when the status message came.")
    sent_at_of_status: str | None = Field(description="The status message's `sent_at`; null when it had none.")


class DownSettings(_Open):
    """The device's settings; QoS 1, retained. What is missing goes back to the device's own default."""

    type: Literal["settings"]
    revision: int = Field(ge=1, description="Rises with each change.")
    settings: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")], str | float | bool]


class Down(RootModel[Annotated[DownTime | DownSettings, Field(discriminator="type")]]):
    """Published by Vitalgate on v1/devices/{device}/down. A device passes over types and keys that it does not know."""


#: By the name of the schema's file.
MODELS: dict[str, type[BaseModel]] = {
    "mqtt.readings": Readings,
    "mqtt.waveforms": Waveforms,
    "mqtt.status": Status,
    "mqtt.receipts": Receipt,
    "mqtt.down": Down,
}
