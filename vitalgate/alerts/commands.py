"""What people do with an alert: commands on alerting.commands, answers on alerting.replies."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Action = Literal["acknowledge", "silence", "unsilence", "comment"]
Outcome = Literal["done", "refused"]


class Command(BaseModel):
    """One command (alerting.commands, key patient). The same command id counts once."""

    model_config = ConfigDict(frozen=True)

    command_id: str = Field(min_length=8, max_length=80, description="Chosen by the sender, new for each command.")
    alert_id: str = Field(min_length=8, max_length=80)
    patient: str = Field(min_length=1, max_length=80)
    who: str = Field(min_length=1, max_length=120, description="Who it is; proved by whoever lets the command in.")
    action: Action
    until: datetime | None = Field(None, description="Of a silence: until when, with its offset from UTC.")
    reason: str = Field("", max_length=500, description="Of a silence: why.")
    text: str = Field("", max_length=2000, description="Of a comment.")
    at: datetime = Field(description="When it was given.")

    @model_validator(mode="after")
    def _whole(self) -> Command:
        if self.action == "silence":
            if self.until is None or self.until.tzinfo is None:
                raise ValueError("a silence needs `until`, a time with its offset from UTC")
            if not self.reason.strip():
                raise ValueError("a silence needs a reason")
        if self.action == "comment" and not self.text.strip():
            raise ValueError("a comment needs a text")
        if self.at.tzinfo is None:
            raise ValueError("`at` needs its offset from UTC")
        return self


class Reply(BaseModel):
    """The answer to a command (alerting.replies, key patient); a repeat of the command gets the same."""

    model_config = ConfigDict(frozen=True)

    command_id: str
    alert_id: str
    patient: str
    team: str
    who: str
    action: str
    outcome: Outcome
    detail: str = Field("", description="Why it was refused, with the remedy.")
    state: str = Field("", description="State of the alert afterwards.")
    number: int = Field(0, description="Number of the newest event of the alert afterwards.")


def read(document: Any) -> Command:
    """A command from its JSON document. Raises pydantic's ValidationError."""
    return Command.model_validate(document)
