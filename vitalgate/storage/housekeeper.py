"""Calls `maintenance.run` again and again, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import maintenance
from vitalgate.storage.errors import TransientDatabaseError

log = logging.getLogger(__name__)

EVERY_S = 20.0
"""Seconds between two refreshes of the aggregates."""
THOROUGH_S = 300.0
"""Seconds between two rounds of everything else."""


class Housekeeper:
    """Runs until it is stopped; several at once do no harm, the database lets one run at a time.

    A fault is logged and tried again at the next round: nothing waits for housekeeping.
    """

    def __init__(self, database: DatabaseSettings, every_s: float = EVERY_S, thorough_s: float = THOROUGH_S) -> None:
        # A role of its own: only housekeeping needs to own the tables.
        self._database = _as_housekeeper(database)
        self._every_s = every_s
        self._thorough_s = thorough_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeper", daemon=True)
        self.rounds = 0

    def start(self) -> None:
        """Begin; the first round is a thorough one."""
        self._thread.start()

    def stop(self, wait_s: float = 5.0) -> None:
        """End after the round in hand, or leave it to the end of the process after `wait_s`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    def _work(self) -> None:
        thorough_at = 0.0
        while not self._stop.is_set():
            thorough = time.monotonic() >= thorough_at
            try:
                report = maintenance.run(self._database, thorough=thorough)
            except TransientDatabaseError as error:
                log.info("housekeeping waits for the database", extra={"fault": str(error)})
            except Exception:
                log.exception("housekeeping failed; it is tried again")
            else:
                if thorough:
                    thorough_at = time.monotonic() + self._thorough_s
                    done = {name: value for name, value in asdict(report).items() if value and name != "ran"}
                    log.info("housekeeping", extra=done)
            self.rounds += 1
            self._stop.wait(self._every_s)


def _as_housekeeper(database: DatabaseSettings) -> DatabaseSettings:
    if not database.housekeeper_user:
        return database
    return database.model_copy(
        update={"user": database.housekeeper_user, "password_file": database.housekeeper_password_file}
    )
