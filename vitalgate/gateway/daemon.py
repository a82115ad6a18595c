"""What every process of this room does around its work: logs, health endpoints, signals, exit status."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from typing import Protocol

from vitalgate.config.settings import Settings
from vitalgate.telemetry import collector
from vitalgate.telemetry.health import Health, serve_health
from vitalgate.telemetry.logs import start_logging
from vitalgate.telemetry.out_of_memory import end_when_out_of_memory

log = logging.getLogger(__name__)
#: The work cannot go on in this process; a supervisor starts it again (sysexits: EX_TEMPFAIL).
EXIT_RESTART = 75


class Daemon(Protocol):
    """Work that runs until it is asked to stop."""

    def run(self) -> None:
        """Work until `stop()`; an exception ends the process with `EXIT_RESTART`."""

    def stop(self) -> None:
        """Ask `run` to finish what it has in hand and return; called from another thread."""


def run_daemon(name: str, settings: Settings, make: Callable[[Health], Daemon]) -> int:
    """Run one daemon until SIGTERM or SIGINT; returns the exit status."""
    start_logging(name, settings.log)
    end_when_out_of_memory()
    health = Health()
    daemon = make(health)
    server = serve_health(health, settings.health)
    collector.settle()

    def asked(number: int, frame: object) -> None:
        log.info("asked to stop", extra={"signal": signal.Signals(number).name})
        daemon.stop()

    status = 0

    def work() -> None:
        nonlocal status
        try:
            daemon.run()
        except Exception as error:
            status = EXIT_RESTART
            log.exception("stopped by a fault; the supervisor has to start it again", extra={"detail": str(error)})

    # Signals are handled in the main thread, which does nothing else: so `stop()` may take locks that the work holds.
    thread = threading.Thread(target=work, name=name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    thread.start()
    while thread.is_alive():
        thread.join(1.0)
    server.shutdown()
    return status
