"""Who is told, and who next when nobody answers: a team's roster, as data (registry.rosters); and cohorts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vitalgate.alerts.rule import Priority

Target = Literal["patient", "team", "on-call"]
Who = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,80}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Rung(_Part):
    """One step of the escalation."""

    after_s: float = Field(gt=0, le=7 * 86400, description="Seconds without acknowledgement since it was told.")
    to: Target = Field(description="patient: those named for the patient; team: all members; on-call: who is on duty.")


class Duty(_Part):
    """Who is on call when."""

    who: Who = Field(description="Who is on duty.")
    from_: datetime = Field(alias="from", description="Beginning, included.")
    to: datetime = Field(description="End, excluded.")

    @model_validator(mode="after")
    def _ordered(self) -> Duty:
        if self.from_.tzinfo is None or self.to.tzinfo is None:
            raise ValueError(f"duty of {self.who}: give both times with their offset from UTC")
        if self.to <= self.from_:
            raise ValueError(f"duty of {self.who} ends at {self.to.isoformat()}, not after it begins")
        return self


class Roster(_Part):
    """A care team's people and how alerts rise through them (registry.rosters, key team)."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"title": "registry.rosters"})

    team: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="Care team.")
    members: tuple[Who, ...] = Field(min_length=1, description="Everybody in the team.")
    named: dict[str, tuple[Who, ...]] = Field({}, description="By patient: who is told first.")
    on_call: tuple[Duty, ...] = Field((), description="Who is on duty when; the standing one first.")
    always_on_call: tuple[Who, ...] = Field((), description="On call whenever the plan names nobody.")
    escalation: dict[Priority, tuple[Rung, ...]] = Field(
        {}, description="By priority, in order of time; a priority that is not there does not escalate."
    )
    author: str = Field("", description="Who set it.")
    at: datetime | None = Field(None, description="When it was set.")
    change: int = Field(0, description="Rises with every change of the roster.")

    @model_validator(mode="after")
    def _consistent(self) -> Roster:
        for priority, rungs in self.escalation.items():
            times = [rung.after_s for rung in rungs]
            if times != sorted(set(times)):
                raise ValueError(f"escalation of {priority}: after_s must rise from step to step, not {times}")
            targets = [rung.to for rung in rungs]
            if "on-call" in targets and not (self.on_call or self.always_on_call):
                raise ValueError(
                    f"escalation of {priority} goes to on-call, and nobody is; fill on_call or always_on_call"
                )
            if "patient" in targets and not self.named:
                raise ValueError(f"escalation of {priority} goes to those named for the patient; fill `named`")
        strangers = sorted({who for people in self.named.values() for who in people} - set(self.members))
        if strangers:
            raise ValueError(f"named for patients but no members: {', '.join(strangers)}; add them to members")
        return self

    def rungs(self, priority: str) -> tuple[tuple[int, Target], ...]:
        """(after us, to whom) of each step of a priority."""
        found: tuple[Rung, ...] = self.escalation.get(priority, ())  # type: ignore[call-overload]  # any text may ask
        return tuple((round(rung.after_s * 1_000_000), rung.to) for rung in found)

    def people(self, target: Target, patient: str, when: datetime) -> list[str]:
        """Who that is for a patient at a time; a patient for whom nobody is named is the whole team's."""
        if target == "patient":
            return list(self.named.get(patient) or self.members)
        if target == "team":
            return list(self.members)
        duty = [duty.who for duty in self.on_call if duty.from_ <= when < duty.to]
        return duty or list(self.always_on_call) or list(self.members)


class Cohort(BaseModel):
    """Alert limits of a group of patients (registry.cohorts, key cohort); a patient's `_cohorts` name it."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"title": "registry.cohorts"})

    cohort: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="The group's name.")
    overrides: dict[str, object] = Field({}, description="By rule id: one override or a list, as of a patient.")
    author: str = Field("", description="Who set it.")
    at: datetime | None = Field(None, description="When it was set.")
    change: int = Field(0, description="Rises with every change of the cohort.")
