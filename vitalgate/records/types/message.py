"""What a patient and the care team write to each other."""

from __future__ import annotations

from pydantic import AwareDatetime

from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition
from vitalgate.records.types.ecg_report import FileReference


class Message(Envelope):
    """One message of a thread."""

    conversation_id: str = field(
        "The thread; a message without one begins a thread of its own.", "", also="threadId", max_length=64
    )
    from_user: str | None = field("User who wrote it.", alias="from", also="sender", source="server")
    to_user: str | None = field(
        "User it is to; null is to the whole care team (or, written by it, to the patient).",
        alias="to", also="recipient", max_length=64,
    )  # fmt: skip
    body: str = field("The text.", required=True, min_length=1, max_length=10000)
    attachments: list[FileReference] = field("Files that go with it.", [])
    sent_at: AwareDatetime | None = field("When it was sent.", source="server")
    delivered_at: AwareDatetime | None = field("When it reached a recipient's application.", source="server")
    read_at: AwareDatetime | None = field("When a recipient read it first.", source="server")
    read_by: str | None = field("Who that was.", source="server")
    is_read: bool = field("Whether it has been read.", False, source="server", column="=status = 'read'")
    legal_hold: bool = field("Kept beyond the retention policy while true.", False, source="server")
    status: str = field("sent, delivered or read.", "sent", source="server")


MESSAGE = RecordType(
    name="message",
    title="Message",
    path="messages",
    also=("UserMessage", "PatientMessage"),
    meaning="Threads between a patient and the care team, with read receipts.",
    model=Message,
    relation="messages",
    table="messages",
    states=("sent", "delivered", "read"),
    sorts=("sent_at",),
    filters=("patient", "conversation_id", "from_user", "to_user", "status", "sent_at"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Send a message.", to="sent", fields=("patient", "conversation_id", "to_user", "body",
                       "attachments"), required=("patient", "body"), stamps={"sent_at": "now", "from_user": "user"}),
            Transition("deliver", "It has reached the recipient's application.", ("sent",), "delivered",
                       stamps={"delivered_at": "now"}),
            Transition("mark_read", "The recipient has read it.", ("sent", "delivered"), "read",
                       stamps={"read_at": "now", "read_by": "user", "delivered_at": "first"}),
            Transition("hold", "Keep it beyond the retention policy, or no longer.", ("sent", "delivered", "read"),
                       fields=("legal_hold",)),
            Transition("expire", "The retention policy takes its words away.", ("sent", "delivered", "read"),
                       fields=("body", "attachments", "withdrawn_reason"), stamps={"withdrawn_at": "first"}),
            Transition("withdraw", "Take it back; that it was there stays.", ("sent", "delivered", "read"),
                       fields=("withdrawn_reason",), required=("withdrawn_reason",), stamps={"withdrawn_at": "now"}),
        )
    },
)  # fmt: skip
