"""Where the audit chain ends: read from the end of audit.events, past whatever else somebody may have put there."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from vitalgate.audit.chain import Record as Link
from vitalgate.audit.chain import Tip, append, is_link, own_hash, tip_of
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.stream import lookback

log = logging.getLogger(__name__)

_TAIL = 64


def read_record(value: bytes | None) -> Link:
    """A record of audit.events; an empty one for bytes that are no JSON object."""
    try:
        found: Any = json.loads(value or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def read_tip(kafka: KafkaSettings, base: int = 0) -> tuple[Tip, Link | None, bool]:
    """The end of the chain, its link, and whether a checkpoint signs that.

    A link counts when its content gives its hash and it is what its inbox record makes; the newest one that does is the
    end. What does not count was not written by the auditor: it is left where it is, and `vitalgate audit verify` names
    it.

    Parameters
    ----------
    base
        What is added to the offsets of audit.inbox (storage.log_base).

    Raises
    ------
    TransientError
        When Kafka does not answer.
    """
    reach = _TAIL
    end = await lookback.end_offset(kafka, topics.AUDIT, 0)
    inbox_end = base + await lookback.end_offset(kafka, topics.AUDIT_INBOX, 0)
    while True:
        start = max(0, end - reach)
        links: dict[int, Link] = {}
        signed: set[int] = set()
        async for chunk in lookback.read(kafka, topics.AUDIT, 0, start=start):
            for record in chunk:
                link = read_record(record.value)
                if link.get("checkpoint"):
                    signed.add(link["n"] if isinstance(link.get("n"), int) else 0)
                elif is_link(link) and link["inbox_offset"] < inbox_end and own_hash(link) == link["hash"]:
                    links.setdefault(link["n"], link)
        for n in sorted(links, reverse=True):
            if await _is_ours(kafka, base, links[n], links.get(n - 1)):
                return tip_of(links[n]), links[n], n in signed
            log.error("a record on audit.events was not written by the auditor", extra={"n": n})
        if start == 0:
            return Tip(), None, False
        reach *= 8


async def _is_ours(kafka: KafkaSettings, base: int, link: Link, before: Link | None) -> bool:
    if before is not None and link["previous_hash"] != before["hash"]:
        return False
    if link["inbox_offset"] < base:
        return True  # its inbox was lost with the Kafka it was in
    data = await asyncio.to_thread(lookback.fetch, kafka, topics.AUDIT_INBOX, 0, link["inbox_offset"] - base)
    if data is None:
        return True  # it has expired
    made = append(Tip(link["n"] - 1, link["previous_hash"], link["inbox_offset"] - 1), link["inbox_offset"], data)
    return made is not None and made[0].hash == link["hash"]
