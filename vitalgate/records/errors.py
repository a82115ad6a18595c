"""Why something about a record is refused; an interface turns each class into its own kind of answer."""

from __future__ import annotations

from collections.abc import Sequence


class RecordError(Exception):
    """Base of all refusals. The text may be shown to the user: it says what, why and the remedy, never a value of
    somebody else's record.

    Attributes
    ----------
    code
        A word that a program can rely on.
    status
        The HTTP status that fits.
    """

    code = "refused"
    status = 400


class Invalid(RecordError):
    """What was given cannot be; `fields` says where and why."""

    code = "invalid"
    status = 422

    def __init__(self, text: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.fields = list(fields)
        """(field as it was spelt, what is wrong with it)."""


class NotAllowed(RecordError):
    """The role or relation does not permit this verb on a record that the user can see.

    The rest says for the audit what was tried: action, kind of record, its id, the patient.
    """

    code = "not_allowed"
    status = 403

    def __init__(
        self, text: str, *, action: str = "", record: str = "", entity: str = "", patient: str | None = None
    ) -> None:
        super().__init__(text)
        self.action = action
        self.record = record
        self.entity = entity
        self.patient = patient


class NotFound(RecordError):
    """No such record, or none that this user may know of; the two look the same on purpose."""

    code = "not_found"
    status = 404


class Conflict(RecordError):
    """The record is not in a state that allows this, or another record stands against it."""

    code = "conflict"
    status = 409


class Changed(RecordError):
    """The record has another version than the one that was read: read it again (lost update refused)."""

    code = "changed"
    status = 412

    def __init__(self, text: str, version: int | None = None) -> None:
        super().__init__(text)
        self.version = version
        """The version there is."""


class NotLoggedIn(RecordError):
    """Wrong credentials, or a session that is over. Which of the two halves was wrong is never said."""

    code = "not_logged_in"
    status = 401


class LockedOut(NotLoggedIn):
    """Too many failures; `retry_s` says for how long to wait."""

    code = "locked_out"
    status = 429

    def __init__(self, text: str, retry_s: int) -> None:
        super().__init__(text)
        self.retry_s = retry_s
