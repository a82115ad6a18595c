"""`auditor`: the one writer of the audit chain, audit.inbox to audit.events.

The chain is a function of the inbox, so nothing is remembered here but its tip, which is read from the end of
audit.events at every assignment: a kill between writing and acknowledging writes no link twice.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vitalgate.audit.chain import Record as Link
from vitalgate.audit.chain import Tip, append, tip_of
from vitalgate.audit.checkpoints import load_private, sign
from vitalgate.config import topics
from vitalgate.stream import lookback
from vitalgate.stream.headers import headers
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

_TAIL = 64


class Auditor(Worker):
    """See the module."""

    name = "auditor"
    topics = (topics.AUDIT_INBOX,)
    gather_s = 0.25

    async def start(self, context: Context) -> None:
        """Read the signing key; without one the chain is written without checkpoints, and says so."""
        await super().start(context)
        file = context.settings.audit.signing_key_file
        self.key: Ed25519PrivateKey | None = load_private(Path(file).read_bytes()) if file else None
        if self.key is None:
            log.warning("audit.signing_key_file is not set: no signed checkpoints, a cut tail would not show")
        self.tip: Tip | None = None

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Find the end of the chain."""
        self.tip = await self._read_tip() if partitions else None

    async def recover(self) -> None:
        """Some links may have been written: find the end again."""
        self.tip = None

    async def handle(self, batch: list[Record]) -> None:
        """Chain these events."""
        if self.tip is None:
            self.tip = await self._read_tip()
        tip, every = self.tip, self.context.settings.audit.checkpoint_every
        produce = self.context.producer.produce
        count = 0
        for record in batch:
            linked = append(tip, record.offset, record.value or b"")
            if linked is None:
                continue
            tip, link = linked
            count += 1
            await produce(
                topics.AUDIT, key=None, value=_bytes(link), partition=0,
                headers=headers(topics.AUDIT, record.header("trace"), link["hash"][:32]),
            )  # fmt: skip
            if self.key is not None and tip.n % every == 0:
                await self._checkpoint(tip, link)
        self.tip = None  # until it is known that Kafka has them
        await self.context.producer.flush_batch()
        self.tip = tip
        metrics.AUDIT_EVENTS.inc(count)

    async def _checkpoint(self, tip: Tip, link: Link) -> None:
        assert self.key is not None
        record = sign(self.key, tip, link.get("when"))
        await self.context.producer.produce(
            topics.AUDIT, key=None, value=_bytes(record), partition=0,
            headers=headers(topics.AUDIT, "", f"checkpoint-{tip.n}"),
        )  # fmt: skip

    async def _read_tip(self) -> Tip:
        kafka = self.context.settings.kafka
        reach = _TAIL
        end = await lookback.end_offset(kafka, topics.AUDIT, 0)
        while True:
            start = max(0, end - reach)
            last: Link | None = None
            signed = False
            async for chunk in lookback.read(kafka, topics.AUDIT, 0, start=start):
                for record in chunk:
                    link = json.loads(record.value or b"{}")
                    if link.get("checkpoint"):
                        signed = signed or (last is not None and link["n"] == last["n"])
                    elif last is None or link["n"] > last["n"]:
                        last, signed = link, False
            if last is not None:
                break
            if start == 0:
                return Tip()
            reach *= 8
        tip = tip_of(last)
        if self.key is not None and not signed and tip.n % self.context.settings.audit.checkpoint_every == 0:
            await self._checkpoint(tip, last)
            await self.context.producer.flush_batch()
        return tip


def _bytes(record: Link) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()
