"""Which pydantic model describes the records of each public topic."""

from __future__ import annotations

from pydantic import BaseModel

from vitalgate.alerts.events import AlertEvent
from vitalgate.alerts.roster import Cohort, Roster
from vitalgate.audit.events import AuditRecord
from vitalgate.config import topics
from vitalgate.devices import public
from vitalgate.handover.delivery import AlertDelivery

#: By base topic name; a public topic without an entry fails `vitalgate schema check`.
MODELS: dict[str, type[BaseModel]] = {
    topics.READINGS.name: public.DeviceReadings,
    topics.WAVEFORMS.name: public.DeviceWaveform,
    topics.DEADLETTER.name: public.DeadLetter,
    topics.BEATS.name: public.PatientBeats,
    topics.FEATURES.name: public.PatientFeature,
    topics.ALERTS.name: AlertEvent,
    topics.ALERT_STATE.name: AlertEvent,
    topics.ALERT_DELIVERIES.name: AlertDelivery,
    topics.AUDIT.name: AuditRecord,
    topics.REGISTRY_DEVICES.name: public.Device,
    topics.REGISTRY_ASSIGNMENTS.name: public.DeviceAssignments,
    topics.REGISTRY_PATIENTS.name: public.Patient,
    topics.REGISTRY_CLINICIANS.name: public.Clinician,
    topics.REGISTRY_ROSTERS.name: Roster,
    topics.REGISTRY_COHORTS.name: Cohort,
}
