"""Read of what the pipeline stored; entry by hand goes in at the pipeline's beginning."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime

from vitalgate.records.fields import RecordModel, field
from vitalgate.records.record_type import RecordType, Transition


class DeviceData(RecordModel):
    """One version of one measured value."""

    id: str = field("device/metric/site/time/index/version; stable.", "", source="server")
    patient: str = field("Whose it is.", column="patient_id", required=True)
    device: str = field("The device that measured.", "", source="server", column="device_id")
    device_type: str = field("Kind of the device.", "", source="server")
    metric: str = field("What was measured.", "", source="server")
    site: str = field("Where, such as arm-left; empty when it is not said.", "", source="server")
    index: int = field("Which of several at one time.", 0, source="server")
    recorded_at: AwareDatetime | None = field("Event time, corrected for clock skew.", source="server", column="time")
    received_at: AwareDatetime | None = field("When it came in.", source="server")
    version: int = field("1 is the first value; corrections count up.", 1, source="server")
    current: bool = field("Whether this is the version in force.", True, source="server")
    retracted: bool = field("Whether this version takes the value back.", False, source="server")
    data_payload: dict[str, Any] = field(
        "value, code, comparator, unit, valueSent, unitSent, context, flags, absent, unusual, group.", {},
        source="server",
    )  # fmt: skip
    entered_by: str | None = field("The user who entered it by hand; null for a device's own.", source="server")
    readings: list[dict[str, Any]] = field(
        "Only at entry by hand: readings as a device would send them (metric, value, unit, time, …).", [], column="-"
    )


DEVICE_DATA = RecordType(
    name="device_data",
    title="DeviceData",
    path="device-data",
    meaning="Measured values, all versions and the current one, as the pipeline stored them.",
    model=DeviceData,
    relation="device_data",
    sorts=("recorded_at",),
    filters=("patient", "device", "device_type", "metric", "current", "recorded_at", "received_at", "entered_by"),
    transitions={
        "create": Transition(
            "create", "Enter readings by hand: they are validated and versioned as a device's are.",
            fields=("patient", "readings"), required=("patient", "readings"),
        )
    },
)  # fmt: skip
