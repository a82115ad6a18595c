"""Opening the record of a patient that one does not look after: with a reason, for a while, and seen by others."""

from __future__ import annotations

from pydantic import AwareDatetime

from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition


class BreakGlass(Envelope):
    """One opening."""

    user_id: str | None = field("Who opened the record.", alias="user", source="server")
    reason: str = field("Why.", required=True, min_length=5, max_length=500)
    until: AwareDatetime = field("It closes by itself then; at most 24 hours on.", required=True)
    ended_at: AwareDatetime | None = field("When it was closed before that.", source="server")
    status: str = field("open or ended.", "open", source="server")


BREAK_GLASS = RecordType(
    name="break_glass",
    title="BreakGlass",
    path="break-glass",
    meaning="Who opened a record without being on the care team, why and until when; the care team is told.",
    model=BreakGlass,
    relation="break_glass",
    table="break_glass",
    states=("open", "ended"),
    filters=("patient", "user_id", "status"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Open a record in an emergency.", to="open", fields=("patient", "reason", "until"),
                       required=("patient", "reason", "until"), stamps={"user_id": "user"}),
            Transition("end", "Close it again.", ("open",), "ended", stamps={"ended_at": "now"}),
        )
    },
)  # fmt: skip
