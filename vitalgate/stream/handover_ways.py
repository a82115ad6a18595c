"""The destinations in force, each with its sender and what may go to it; read anew when their file changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitalgate.handover import destinations, senders
from vitalgate.handover.destinations import Destination, Destinations, DestinationsError
from vitalgate.handover.lane import Lane
from vitalgate.handover.senders import Sender

log = logging.getLogger(__name__)


@dataclass
class Way:
    """How one destination is reached."""

    destination: Destination
    sender: Sender
    lane: Lane


class Ways:
    """Those of one file.

    Parameters
    ----------
    file
        Its path; '' for no destinations at all.
    """

    def __init__(self, file: str, attempt_s: float) -> None:
        self._file = file
        self._attempt_s = attempt_s
        self._seen = ""
        self._complained = ""
        self.book = Destinations.model_validate({})
        self.by_name: dict[str, Way] = {}
        self.fingerprint = ""
        """Of the file in force."""

    @property
    def destinations(self) -> Mapping[str, Destination]:
        """By name."""
        return self.book.destination

    async def load(self) -> None:
        """Read the file.

        Raises
        ------
        DestinationsError
            When it cannot be used.
        """
        if not self._file:
            return
        raw = await asyncio.to_thread(self._read)
        self._seen = hashlib.sha256(raw).hexdigest()
        await self._take(destinations.parse(raw.decode("utf-8", "replace")))
        self.fingerprint = self._seen[:16]

    async def refresh(self) -> bool:
        """Read the file again if it has changed; True when others are in force now.

        One that cannot be used changes nothing: the destinations before it stay.
        """
        if not self._file:
            return False
        try:
            raw = await asyncio.to_thread(self._read)
            seen = hashlib.sha256(raw).hexdigest()
            if seen == self._seen:
                return False
            self._seen = seen
            await self._take(destinations.parse(raw.decode("utf-8", "replace")))
        except DestinationsError as error:
            if str(error) != self._complained:
                self._complained = str(error)
                log.error("the destinations cannot be used; those before stay in force", extra={"error": str(error)})
            return False
        self._complained = ""
        self.fingerprint = seen[:16]
        return True

    def _read(self) -> bytes:
        try:
            return Path(self._file).read_bytes()
        except OSError as error:
            raise DestinationsError(
                f"file {self._file} (handover.destinations) cannot be read: {error.strerror}"
            ) from error

    async def _take(self, book: Destinations) -> None:
        same_server = book.smtp == self.book.smtp
        made: dict[str, Way] = {}
        for name, destination in book.destination.items():
            known = self.by_name.get(name)
            if known is not None and known.destination == destination and (same_server or destination.kind != "email"):
                made[name] = known
                continue
            sender = senders.sender(name, destination, book, self._attempt_s)
            made[name] = Way(destination, sender, Lane(destination.per_minute, destination.at_once))
        gone = [way for name, way in self.by_name.items() if made.get(name) is not way]
        self.book, self.by_name = book, made
        for way in gone:
            await way.sender.close()

    async def close(self) -> None:
        """Close all senders."""
        for way in self.by_name.values():
            await way.sender.close()
