"""No fault at all."""

from __future__ import annotations

from typing import ClassVar

from vitalgate.torture.fault import Fault, Field


class Nothing(Fault):
    """Nothing is done.

    The control: what differs in such a round differs by itself, and no other round's outcome would mean anything.
    """

    name: ClassVar[str] = "none"
    row: ClassVar[str] = "none"
    alone: ClassVar[bool] = True

    async def strike(self, field: Field) -> None:
        """Look on."""
