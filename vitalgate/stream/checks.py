"""What nobody else looks after, as metrics for the operators: ledger, audit trail, disks, certificates."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vitalgate.config.settings import Settings
from vitalgate.storage import ledger
from vitalgate.storage.errors import StorageError
from vitalgate.stream.audit_watch import AuditWatch
from vitalgate.stream.errors import TransientError
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Time between two looks at disks and certificates.
NEAR_S = 30.0


class Checks:
    """One thread; a check that fails is logged and done again at its next time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._audit = AuditWatch(settings)
        self._stop = threading.Event()
        self._due: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="checks", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once."""
        self._stop.set()

    def _run(self) -> None:
        watch = self._settings.watch
        checks: list[tuple[str, float, Callable[[], None]]] = [
            ("disks", NEAR_S, self.disks),
            ("certificates", NEAR_S, self.certificates),
            ("audit", watch.audit_s, self.audit),
            ("ledger", watch.ledger_s, self.ledger),
        ]
        while not self._stop.wait(1.0):
            for name, every_s, check in checks:
                if not every_s or time.monotonic() < self._due.get(name, 0.0):
                    continue
                try:
                    check()
                    metrics.CHECKED_AT.labels(name).set_to_current_time()
                except (StorageError, TransientError, OSError) as error:
                    log.info("a check has to wait", extra={"check": name, "fault": str(error)})
                except Exception:
                    log.exception("a check failed; it is tried again", extra={"check": name})
                self._due[name] = time.monotonic() + every_s

    def ledger(self) -> None:
        """Reckon the whole ledger. Raises TransientDatabaseError."""
        found = ledger.read(self._settings.database)
        metrics.LEDGER_UNBALANCED.set(not found.balanced)
        metrics.LEDGER_LOST.set(found.lost)
        self._tell("ledger", "" if found.balanced else "; ".join(found.faults) or f"{found.lost} items are lost")

    def audit(self) -> None:
        """Verify the audit trail's new links. Raises TransientError."""
        metrics.AUDIT_VERIFIED.set(self._audit.look())
        broken = self._audit.broken
        metrics.AUDIT_BROKEN.set(0 if broken is None else max(1, broken.n))
        self._tell("audit", "" if broken is None else f"broken at link {broken.n}: {broken.why}")

    def disks(self) -> None:
        """Free space where the settings say."""
        given = [path.strip() for path in self._settings.watch.disks.split(",") if path.strip()]
        for path in given or [self._settings.stack.data]:
            if Path(path).exists():
                found = os.statvfs(path)
                metrics.DISK_FREE.labels(path).set(found.f_bavail / found.f_blocks if found.f_blocks else 0.0)

    def certificates(self) -> None:
        """When each configured certificate ends; of a file with several, the first to end."""
        from cryptography import x509

        for name, path in certificate_files(self._settings).items():
            try:
                data = Path(path).read_bytes()
                ends = min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(data))
            except (OSError, ValueError) as error:
                self._tell(name, f"the certificate {path} cannot be read: {error}")
                metrics.CERTIFICATE_ENDS.labels(name).set(0)
                continue
            self._tell(name, "")
            metrics.CERTIFICATE_ENDS.labels(name).set(ends.timestamp())

    def _tell(self, what: str, text: str) -> None:
        """Say a fault once, and once that it is over."""
        if text and self._told.get(what) != text:
            log.error(f"{what}: {text}")
        elif not text and self._told.get(what):
            log.info(f"{what} is right again")
        self._told[what] = text


def certificate_files(settings: Settings) -> dict[str, str]:
    """Every certificate that the settings name: {setting: file}."""
    return {
        f"{section}.{name}": str(value)
        for section, values in settings.model_dump().items()
        for name, value in values.items()
        if name in ("cert_file", "ca_file") and value
    }
