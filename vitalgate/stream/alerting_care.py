"""Rosters and cohorts in memory, kept up to date from their compacted topics by a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson
from pydantic import ValidationError

from vitalgate.alerts.roster import Cohort, Roster
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import REGISTRY_COHORTS, REGISTRY_ROSTERS, full
from vitalgate.stream.compacted_view import CompactedView

log = logging.getLogger(__name__)

#: Told what changed: "roster" or "cohort", and its key.
OnChange = Callable[[str, str], None]


class CareView(CompactedView):
    """Reads registry.rosters and registry.cohorts from their beginning and follows them."""

    def __init__(self, kafka: KafkaSettings, on_change: OnChange) -> None:
        self.rosters: dict[str, Roster] = {}
        self.cohorts: dict[str, Cohort] = {}
        self._on_change = on_change
        self._rosters = full(REGISTRY_ROSTERS, kafka)
        super().__init__(kafka, (self._rosters, full(REGISTRY_COHORTS, kafka)), "rosters and cohorts")

    def _entry(self, name: str, raw_key: str | bytes | None, value: str | bytes | None, offset: int) -> None:
        key = raw_key.decode("utf-8", "replace") if isinstance(raw_key, bytes) else raw_key or ""
        roster = name == self._rosters
        try:
            if value is None:
                (self.rosters if roster else self.cohorts).pop(key, None)
            elif roster:
                self.rosters[key] = Roster.model_validate(orjson.loads(value))
            else:
                self.cohorts[key] = Cohort.model_validate(orjson.loads(value))
        except (ValidationError, ValueError) as fault:
            # The one before stays in force: an unreadable entry must not take an escalation away.
            log.error(
                "a roster or cohort cannot be read and is left as it was",
                extra={"topic": name, "key": key, "offset": offset, "error": str(fault).partition("\n")[0]},
            )
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_change, "roster" if roster else "cohort", key)
