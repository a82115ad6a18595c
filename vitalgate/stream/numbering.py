"""The bases of the logs' numbering, for workers: Kafka that does not answer is waited for."""

from __future__ import annotations

import asyncio

from vitalgate.config.settings import KafkaSettings
from vitalgate.storage.errors import StorageError
from vitalgate.storage.log_base import Bases, read_bases
from vitalgate.stream.errors import TransientError


def bases_now(kafka: KafkaSettings) -> Bases:
    """As `read_bases`. Raises TransientError when they cannot be read."""
    try:
        return read_bases(kafka)
    except StorageError as error:
        raise TransientError(str(error)) from error


async def bases_of(kafka: KafkaSettings) -> Bases:
    """As `bases_now`, without holding up the event loop."""
    return await asyncio.to_thread(bases_now, kafka)
