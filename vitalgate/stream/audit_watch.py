"""Verifies the audit trail as it grows: each link once, when it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from vitalgate.audit.anchors import AnchorError
from vitalgate.audit.chain import Broken, Record, Verifier
from vitalgate.audit.checkpoints import good_signature, load_public
from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.stream import lookback
from vitalgate.stream.anchor_file import read_anchor_file
from vitalgate.stream.audit_tip import read_record

log = logging.getLogger(__name__)


class AuditWatch:
    """Blocks: call it in a thread, one at a time. What it once found broken stays broken until the process ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._verifier: Verifier | None = None
        self._next = 0
        self.broken: Broken | None = None

    def look(self) -> int:
        """Verify what is new; the number of the newest link.

        Raises
        ------
        TransientError
            When Kafka does not answer.
        """
        if self._verifier is None:
            self._verifier = Verifier(self._good(), self._anchors(), whole=True)
        asyncio.run(self._read(self._verifier))
        verdict = self._verifier.verdict()
        self.broken = self.broken or verdict.broken or self._against_anchors(self._verifier, verdict.tip.n)
        return verdict.tip.n

    async def _read(self, verifier: Verifier) -> None:
        kafka = self._settings.kafka
        end = await lookback.end_offset(kafka, topics.AUDIT, 0)
        if end < self._next:
            self.broken = self.broken or Broken(
                verifier.verdict().tip.n,
                f"the topic ends at offset {end}, and ended at {self._next} before: it was cut or made anew",
            )
            return
        async for chunk in lookback.read(kafka, topics.AUDIT, 0, start=self._next, stop=end):
            for record in chunk:
                verifier.take(read_record(record.value))
        self._next = end

    def _good(self) -> Callable[[Record], bool] | None:
        file = self._settings.audit.signing_key_file
        try:
            key = load_public(Path(file).read_bytes()) if file else None
        except (OSError, ValueError) as error:
            log.warning("signatures of the audit trail are not checked", extra={"fault": str(error)})
            return None
        return None if key is None else (lambda record: good_signature(record, key))

    def _anchors(self) -> list[Record]:
        file = self._settings.audit.anchor_file
        try:
            return read_anchor_file(Path(file)) if file else []
        except (OSError, AnchorError) as error:
            log.warning("the anchor file cannot be read", extra={"fault": str(error)})
            return []

    def _against_anchors(self, verifier: Verifier, last: int) -> Broken | None:
        """The newest anchor was made since the verifier began."""
        newest = max(self._anchors(), key=lambda anchor: int(anchor["n"]), default=None)
        if newest is None:
            return None
        if newest["n"] > last:
            return Broken(last + 1, f"an anchor signs link {newest['n']}, but the trail ends at {last}: cut off")
        return verifier.against(newest)
