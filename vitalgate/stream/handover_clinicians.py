"""Which clinicians there are and which teams they have now, from registry.clinicians."""

from __future__ import annotations

import logging

import orjson

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import REGISTRY_CLINICIANS, full
from vitalgate.stream.compacted_view import CompactedView

log = logging.getLogger(__name__)


class ClinicianTeams(CompactedView):
    """Reads registry.clinicians from its beginning and follows it."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.teams: dict[str, frozenset[str] | None] = {}
        """Teams of each clinician; None: access was revoked."""
        super().__init__(kafka, (full(REGISTRY_CLINICIANS, kafka),), "the registry of clinicians")

    def _entry(self, name: str, key: str | bytes | None, value: str | bytes | None, offset: int) -> None:
        who = key.decode("utf-8", "replace") if isinstance(key, bytes) else key or ""
        if value is None:
            self.teams.pop(who, None)
            return
        try:
            body = orjson.loads(value)
            self.teams[who] = frozenset(body["teams"]) if body["state"] == "active" else None
        except (ValueError, KeyError, TypeError) as fault:
            log.error(
                "a clinician's entry cannot be read and is left as it was",
                extra={"offset": offset, "error": type(fault).__name__},
            )
