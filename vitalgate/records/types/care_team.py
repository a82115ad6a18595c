"""Who looks after whom, from when to when: by name, or as a member of the team that a patient's alerts go to."""

from __future__ import annotations

from pydantic import AwareDatetime

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import RecordModel, field
from vitalgate.records.record_type import RecordType, Transition, Values


class CareTeam(RecordModel):
    """One membership."""

    id: str = field("Identity.", "", source="server")
    patient: str | None = field("The patient, when the clinician was named for this one.", column="patient_id")
    team: str | None = field(
        "The alert team, when the clinician is a member of it: then of all its patients.", source="server"
    )
    clinician: str = field("The clinician's user name.", column="clinician_id", required=True)
    role: str = field("What the clinician is to the patient: attending, nurse, …", "member", max_length=40)
    from_time: AwareDatetime | None = field("Since when.", alias="from", source="server")
    to_time: AwareDatetime | None = field("Until when; null is until further notice.", alias="to", source="server")
    version: int = field("1, and 2 once it has ended.", 1, source="server")
    created_by: str | None = field("Who said so.", source="server")
    status: str = field("active or ended.", "active", source="server")


def _named(after: Values, _before: Values) -> None:
    if not after.get("patient"):
        raise Invalid("a member of the care team is named for a patient", [("patient", "is missing")])


CARE_TEAM = RecordType(
    name="care_team",
    title="CareTeam",
    path="care-team",
    meaning="Who looks after whom, with history; decides at once who sees what. Alert teams are in the same table.",
    model=CareTeam,
    relation="care_team",
    table="care_team",
    states=("active", "ended"),
    sorts=("from_time",),
    filters=("patient", "clinician", "role", "team", "status"),
    transitions={
        one.verb: one
        for one in (
            Transition(
                "create", "Put a clinician on a patient's care team, from now on.", to="active",
                fields=("patient", "clinician", "role"), required=("patient", "clinician"),
                stamps={"from_time": "now"}, check=_named,
            ),
            Transition("end", "From now on the clinician is not on it any more.", ("active",), "ended",
                       stamps={"to_time": "now"}),
        )
    },
)  # fmt: skip
