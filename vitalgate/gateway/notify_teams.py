"""Which team cares for a patient, and which teams there are: registry.patients and registry.clinicians, followed."""

from __future__ import annotations

import logging
import threading

import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.gateway.consume import assign_all, burst, consumer, position
from vitalgate.gateway.notify_loop import Loop, NotifierFailed
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)


class Teams(Loop):
    """Both topics are compacted and read whole at every start; `ready` once they have been."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        super().__init__(settings, "teams", stop)
        self._default = settings.alerting.default_team
        self._patients = topics.full(topics.REGISTRY_PATIENTS, self.kafka)
        self._clinicians = topics.full(topics.REGISTRY_CLINICIANS, self.kafka)
        self._of_patient: dict[str, str] = {}
        self._of_clinician: dict[str, list[str]] = {}

    def of_patient(self, patient: str) -> str:
        """The team that cares for a patient now, as the alert engine sees it."""
        return self._of_patient.get(patient, self._default)

    def all(self) -> set[str]:
        """Every team that has a patient or a clinician, and the default one."""
        # Copies are made in one step each: the loop's thread goes on changing what they are made of.
        clinicians = list(self._of_clinician.values())
        return {self._default, *list(self._of_patient.values()), *(team for teams in clinicians for team in teams)}

    def run(self) -> None:
        """Follow until told to stop."""
        source = consumer(self.kafka, "notifier.teams", self.slot, fatal=self.fail)
        try:
            ends = self._assign(source)
            while not self.stop.is_set() and self.failure is None:
                for message in burst(source, 0.2 if self.ready else 0.02):
                    self._take(position(message).topic, message.key() or b"", message.value())
                if not self.ready:
                    places = source.position([TopicPartition(*place) for place in ends])
                    self.ready = all(place.offset >= ends[place.topic, place.partition] for place in places)
        finally:
            source.close()
        if self.failure is not None:
            raise NotifierFailed(self.failure)

    def _assign(self, source: Consumer) -> dict[tuple[str, int], int]:
        while True:
            try:
                return assign_all(source, (self._patients, self._clinicians))
            except (KafkaException, LookupError) as error:
                log.warning("teams cannot be read yet", extra={"detail": str(error)})
                if self.stop.wait(1.0):
                    return {}

    def _take(self, topic: str, raw_key: str | bytes, value: str | bytes | None) -> None:
        key = raw_key.decode("utf-8", "replace") if isinstance(raw_key, bytes) else raw_key
        try:
            found = None if value is None else orjson.loads(value)
            if topic == self._patients:
                if found is None:
                    self._of_patient.pop(key, None)
                else:
                    self._of_patient[key] = str(found["team"])
            elif found is None or found["state"] != "active":
                self._of_clinician.pop(key, None)
            else:
                self._of_clinician[key] = [str(team) for team in found["teams"]]
        except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
            metrics.POISON.labels("notifier").inc()
            log.error("a registry record could not be read", extra={"topic": topic, "key": key, "detail": repr(error)})
