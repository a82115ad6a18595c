"""People as users, and their sessions. Passwords and second factors are in no model: they never leave the store."""

from __future__ import annotations

from pydantic import AwareDatetime

from vitalgate.records.fields import RecordModel, field
from vitalgate.records.record_type import RecordType


class User(RecordModel):
    """A user account."""

    id: str = field("Identity of the user.", "", source="server")
    email: str = field("E-mail address; sealed, searched for by exact match.", "", source="server", sealed=True)
    display_name: str = field("Name shown to others.", "", source="server", sealed=True)
    roles: list[str] = field("patient, clinician, administrator, device_manager.", [], source="server")
    patient: str | None = field("The patient that this user is.", source="server", column="patient_id")
    clinician: str | None = field("The clinician that this user is.", source="server", column="clinician_id")
    status: str = field("invited, pending, active or disabled.", "pending", source="server")
    email_verified_at: AwareDatetime | None = field("When the address was proved.", source="server")
    second_factor: bool = field("Whether a TOTP second factor is set up.", False, source="server")
    locked_until: AwareDatetime | None = field("Locked out after too many failures, until.", source="server")
    created_at: AwareDatetime | None = field("When the account was made.", source="server")
    version: int = field("One more with every change.", 1, source="server")


USER = RecordType(
    name="user",
    title="User",
    path="users",
    meaning="User accounts, their roles and state.",
    model=User,
    relation="user_accounts",
    states=("invited", "pending", "active", "disabled"),
    sorts=("created_at",),
    filters=("status", "patient", "clinician"),
    indexed=("email",),
)


class Session(RecordModel):
    """One log-in, on one application."""

    id: str = field("Identity of the session.", "", source="server")
    user: str = field("Whose it is.", "", source="server", column="user_id")
    created_at: AwareDatetime | None = field("When the user logged in.", source="server")
    last_seen_at: AwareDatetime | None = field("Last refresh.", source="server")
    expires_at: AwareDatetime | None = field("When it ends by itself.", source="server")
    ended_at: AwareDatetime | None = field("When it was ended.", source="server")
    ended_because: str | None = field("logout, everywhere, reuse, disabled, password, expired.", source="server")
    application: str | None = field("What the user logged in with.", source="server")
    place: str | None = field("From where: the address.", source="server")
    second_factor: bool = field("Whether a second factor was shown.", False, source="server")


SESSION = RecordType(
    name="session",
    title="Session",
    path="sessions",
    meaning="Where a user is logged in.",
    model=Session,
    relation="sessions",
    sorts=("created_at",),
    filters=("user",),
)
