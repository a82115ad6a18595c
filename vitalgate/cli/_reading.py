"""Reading a patient's ECG is told to the audit trail before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from vitalgate.cli._context import Failure, settings


def tell_reading(action: str, patient: str, at: datetime | None, seconds: float, files: Sequence[Path]) -> None:
    """Write the audit event: what cannot be audited is not read.

    Raises
    ------
    Failure
        When Kafka does not take it.
    """
    from vitalgate.stream.audit_inbox import AuditEvent, tell_audit
    from vitalgate.stream.errors import NotDeliveredError

    detail = {"at": at.isoformat() if at else "latest", "seconds": seconds, "files": [str(file) for file in files]}
    event = AuditEvent(action, "patient", patient, datetime.now(UTC).isoformat(), detail)
    try:
        tell_audit(settings().settings.kafka, event, action)
    except NotDeliveredError as error:
        raise Failure(f"nothing was read: {error}") from error
