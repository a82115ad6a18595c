"""What can go wrong with the one-machine stack."""

from __future__ import annotations


class StackError(Exception):
    """The stack could not be started or reached; the text says what, and ends with the guilty log's last lines."""


class PartError(StackError):
    """One part (broker, Kafka, database) is missing or cannot be prepared; the text names the remedy."""
