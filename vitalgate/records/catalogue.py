"""All kinds of records, by every name they go by."""

from __future__ import annotations

from vitalgate.records.errors import Invalid
from vitalgate.records.record_type import RecordType
from vitalgate.records.types.account import SESSION, USER
from vitalgate.records.types.appointment import APPOINTMENT
from vitalgate.records.types.break_glass import BREAK_GLASS
from vitalgate.records.types.cardiac_rehab_log import CARDIAC_REHAB_LOG
from vitalgate.records.types.care_team import CARE_TEAM
from vitalgate.records.types.device_data import DEVICE_DATA
from vitalgate.records.types.ecg_report import ECG_REPORT
from vitalgate.records.types.lab_result import LAB_RESULT
from vitalgate.records.types.message import MESSAGE
from vitalgate.records.types.monitoring_log import MONITORING_LOG
from vitalgate.records.types.patient_profile import PATIENT_PROFILE
from vitalgate.records.types.read_only import ALERT, AUDIT_LOG, DEVICE
from vitalgate.records.types.treatment_plan import TREATMENT_PLAN

RECORDS: dict[str, RecordType] = {
    kind.name: kind
    for kind in (
        USER, SESSION, PATIENT_PROFILE, CARE_TEAM, BREAK_GLASS, DEVICE, DEVICE_DATA, ALERT, MONITORING_LOG, ECG_REPORT,
        CARDIAC_REHAB_LOG, MESSAGE, APPOINTMENT, LAB_RESULT, TREATMENT_PLAN, AUDIT_LOG,
    )
}  # fmt: skip
"""By name."""

_SPELT: dict[str, RecordType] = {
    name: kind for kind in RECORDS.values() for name in (kind.name, kind.title, kind.path, *kind.also)
}


def record_type(name: str) -> RecordType:
    """A kind of record by its name, title, path or other title. Raises Invalid, naming those there are."""
    found = _SPELT.get(name)
    if found is None:
        raise Invalid(f"no kind of record is called {name!r}; there are {', '.join(RECORDS)}")
    return found
