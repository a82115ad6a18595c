"""`auditor`: the one writer of the audit chain, audit.inbox to audit.events.

The chain is a function of the inbox, so nothing is remembered here but its tip, which is read from the end of
audit.events at every assignment: a kill between writing and acknowledging writes no link twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vitalgate.audit.anchors import AnchorError
from vitalgate.audit.chain import Record as Link
from vitalgate.audit.chain import Tip, append
from vitalgate.audit.checkpoints import load_private, sign
from vitalgate.config import topics
from vitalgate.stream.anchor_file import add_to_file
from vitalgate.stream.audit_tip import read_tip
from vitalgate.stream.headers import headers
from vitalgate.stream.numbering import bases_of
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)


class Auditor(Worker):
    """See the module."""

    name = "auditor"
    topics = (topics.AUDIT_INBOX,)
    gather_s = 0.25
    tick_s = 5.0

    async def start(self, context: Context) -> None:
        """Read the signing key; without one the chain is written without checkpoints, and says so."""
        await super().start(context)
        file = context.settings.audit.signing_key_file
        self.key: Ed25519PrivateKey | None = load_private(Path(file).read_bytes()) if file else None
        if self.key is None:
            log.warning("audit.signing_key_file is not set: no signed checkpoints, a cut tail would not show")
        self.base = (await bases_of(context.settings.kafka)).of(topics.AUDIT_INBOX, 0)
        self.tip: Tip | None = None
        self.last: Link | None = None
        """The link at the tip, unless a checkpoint signs it."""
        self.unsigned_since: float | None = None
        self.unkept: Link | None = None
        """The newest checkpoint that is in Kafka and not in the anchor file."""

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Find the end of the chain."""
        self.tip = None
        if partitions:
            await self._find_tip()

    async def recover(self) -> None:
        """Some links may have been written: find the end again."""
        self.tip = None

    async def handle(self, batch: list[Record]) -> None:
        """Chain these events."""
        if self.tip is None:
            await self._find_tip()
        assert self.tip is not None
        tip, every = self.tip, self.context.settings.audit.checkpoint_every
        produce = self.context.producer.produce
        count = 0
        last = self.last
        signed: Link | None = None
        for record in batch:
            linked = append(tip, record.offset + self.base, record.value or b"")
            if linked is None:
                continue
            tip, link = linked
            last = link
            count += 1
            await produce(
                topics.AUDIT, key=None, value=_bytes(link), partition=0,
                headers=headers(topics.AUDIT, record.header("trace"), link["hash"][:32]),
            )  # fmt: skip
            if self.key is not None and tip.n % every == 0:
                signed = await self._checkpoint(tip, link)
                last = None
        self.tip = None  # until it is known that Kafka has them
        await self.context.producer.flush_batch()
        self.tip, self.unkept = tip, signed or self.unkept
        self._unsigned(last)
        metrics.AUDIT_EVENTS.inc(count)
        await self._keep()

    async def tick(self) -> None:
        """Sign what has waited for its checkpoint for long, and keep what could not be kept outside."""
        due = self.unsigned_since is not None and (
            time.monotonic() - self.unsigned_since >= self.context.settings.audit.checkpoint_s
        )
        if due and self.key is not None and self.tip is not None and self.last is not None:
            signed = await self._checkpoint(self.tip, self.last)
            await self.context.producer.flush_batch()
            self.unkept = signed
            self._unsigned(None)
        await self._keep()

    def _unsigned(self, link: Link | None) -> None:
        self.last = link
        if link is None:
            self.unsigned_since = None
        elif self.unsigned_since is None:
            self.unsigned_since = time.monotonic()

    async def _checkpoint(self, tip: Tip, link: Link) -> Link:
        assert self.key is not None
        record = sign(self.key, tip, link.get("when"))
        await self.context.producer.produce(
            topics.AUDIT, key=None, value=_bytes(record), partition=0,
            headers=headers(topics.AUDIT, "", f"checkpoint-{tip.n}"),
        )  # fmt: skip
        return record

    async def _keep(self) -> None:
        """The newest checkpoint, now that Kafka has it, into the anchor file; the chain does not wait for a disk."""
        file = self.context.settings.audit.anchor_file
        if not file or self.unkept is None:
            return
        try:
            await asyncio.to_thread(add_to_file, Path(file), self.unkept)
        except (OSError, AnchorError) as error:
            metrics.AUDIT_ANCHOR_FAILING.set(1)
            log.error("the anchor file (audit.anchor_file) cannot be written", extra={"fault": str(error)})
        else:
            self.unkept = None
            metrics.AUDIT_ANCHOR_FAILING.set(0)

    async def _find_tip(self) -> None:
        tip, link, signed = await read_tip(self.context.settings.kafka, self.base)
        due = tip.n % self.context.settings.audit.checkpoint_every == 0
        if due and link is not None and not signed and self.key is not None:
            checkpoint = await self._checkpoint(tip, link)
            await self.context.producer.flush_batch()
            self.unkept, signed = checkpoint, True
        elif link is not None and signed and self.key is not None:
            self.unkept = sign(self.key, tip, link.get("when"))  # perhaps killed before it was in the anchor file
        self.tip = tip
        self.unsigned_since = None
        self._unsigned(None if signed else link)
        await self._keep()


def _bytes(record: Link) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()
