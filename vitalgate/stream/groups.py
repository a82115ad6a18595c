"""Names of the workers' consumer groups."""

from __future__ import annotations

from vitalgate.config.settings import Settings


def group(settings: Settings, name: str) -> str:
    """Kafka consumer group of a worker."""
    return f"{settings.kafka.prefix}vitalgate-{name}"
