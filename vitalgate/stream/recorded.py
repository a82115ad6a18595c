"""Whether the recorder has caught up: what is read from the database is whole only as far as it has stored."""

from __future__ import annotations

from collections.abc import Mapping

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.storage.errors import TransientDatabaseError
from vitalgate.storage.ledger import high_water
from vitalgate.storage.log_base import Bases
from vitalgate.stream import lookback
from vitalgate.stream.errors import TransientError
from vitalgate.stream.numbering import bases_now

Ends = Mapping[int, int]
"""Where each partition of device.raw ended at some moment, as the ledger numbers it."""


class Recorded:
    """Asks Kafka and the ledger at most once in a round. Blocks: call it in a thread, one at a time.

    Raises
    ------
    TransientError
        From `ends` and `covers`: Kafka or the database does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = topics.full(topics.RAW, settings.kafka)
        self._bases: Bases | None = None
        self._ends: dict[int, int] | None = None
        self._marks: dict[int, int] | None = None

    def begin_round(self) -> None:
        """Forget the answers: what is taken from Kafka from here on is not covered by them."""
        self._ends = self._marks = None

    def ends(self) -> Ends:
        """Where device.raw ends now: everything that any worker was ever given is before."""
        if self._ends is None:
            self._bases = self._bases or bases_now(self._settings.kafka)
            self._ends = self._bases.ends(topics.RAW, lookback.ends(self._settings.kafka, topics.RAW))
        return self._ends

    def covers(self, ends: Ends) -> bool:
        """Whether everything before these ends is stored."""
        if self._marks is None:
            try:
                self._marks = high_water(self._settings.database, self._topic)
            except TransientDatabaseError as error:
                raise TransientError(str(error)) from error
        return all(self._marks.get(partition, -1) >= end - 1 for partition, end in ends.items())
