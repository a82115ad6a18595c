"""What the database knows of files: whose, what, how long, and the sealed key. The rule of who sees one is there."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from vitalgate.api.entry import Entry, actor_of
from vitalgate.api.file_store import Kept
from vitalgate.api.problems import Problem, not_found
from vitalgate.pki import sealing
from vitalgate.records.permissions import Role
from vitalgate.storage.records_audit import audit
from vitalgate.storage.records_database import Actor, RecordsDatabase, Transaction

_ONE = """
    SELECT id, patient_id, name, media_type, size, sha256, sealed_key, created_by, created_at FROM files WHERE id = %s
"""
_ADD = """
    INSERT INTO files (id, patient_id, name, media_type, size, sha256, sealed_key, created_by)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING created_at
"""


@dataclass(frozen=True)
class Stored:
    """One file."""

    id: str
    patient: str
    name: str
    media_type: str
    size: int
    sha256: bytes
    sealed_key: bytes
    created_by: str
    created_at: datetime

    def reference(self) -> dict[str, Any]:
        """What a record holds of it."""
        return {
            "file": self.id, "name": self.name, "mediaType": self.media_type, "size": self.size,
            "sha256": self.sha256.hex(),
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """What a caller is told of it."""
        return {
            **self.reference(), "patient": self.patient, "createdBy": self.created_by, "createdAt": self.created_at
        }  # fmt: skip

    @property
    def quoted_name(self) -> str:
        """For Content-Disposition."""
        return quote(self.name, safe="")

    @property
    def digest_base64(self) -> str:
        """For Repr-Digest."""
        return base64.b64encode(self.sha256).decode()


def get(tx: Transaction, file_id: str) -> Stored:
    """A file that the acting user may see. Raises Problem 404."""
    if "\x00" in file_id:
        raise not_found("such file")
    row = tx.connection.execute(_ONE, (file_id,)).fetchone()
    if row is None:
        raise not_found("such file")
    one_id, patient, name, kind, size, sha256, key, by, at = row
    plain = sealing.unseal_text(tx.keys, name, f"file/{one_id}/name")
    return Stored(one_id, patient, plain, kind, size, bytes(sha256), bytes(key), by, at)


def check_upload(entry: Entry, patient: str) -> None:
    """Refuse before a byte is taken. Raises Problem 404 when the patient is not the caller's to add to."""
    with entry.acting() as tx:
        row = tx.connection.execute("SELECT may_add_file(%s)", (patient,)).fetchone()
        if row is None or not row[0]:
            raise not_found("such patient")


def add(entry: Entry, file_id: str, patient: str, name: str, kind: str, kept: Kept) -> Stored:
    """Note a file that was kept."""
    with entry.acting() as tx:
        user = actor_of(tx).user_id
        sealed = sealing.seal(tx.keys, name, f"file/{file_id}/name")
        row = tx.connection.execute(
            _ADD, (file_id, patient, sealed, kind, kept.size, kept.sha256, kept.sealed_key, user)
        ).fetchone()
        assert row is not None
        audit(tx, "file.create", "file", file_id, patient=patient, detail={"size": kept.size, "media_type": kind})
    return Stored(file_id, patient, name, kind, kept.size, kept.sha256, kept.sealed_key, user, row[0])


def open_for(entry: Entry, file_id: str) -> Stored:
    """A file to be given out, which is audited."""
    with entry.acting() as tx:
        return _open(tx, file_id, "token")


def open_shared(entry: Entry, file_id: str, holder: str) -> Stored:
    """The same for the holder of a signed link, whose session must still be open."""
    user, role, session = holder.split(":")
    database = entry.services.database
    if not session_is_open(database, user, session):
        raise Problem(403, "link-expired", "The link ended with the session that it was made in.")
    with database.acting(Actor(user, Role(role), session, entry.place, "rest")) as tx:
        return _open(tx, file_id, "link")


def session_is_open(database: RecordsDatabase, user: str, session: str) -> bool:
    """Whether a session has not ended, and its user is active."""
    with database.accounts() as tx:
        row = tx.connection.execute(
            "SELECT EXISTS (SELECT FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = %s AND u.id = %s"
            " AND s.ended_at IS NULL AND s.expires_at > now() AND u.status = 'active')",
            (session, user),
        ).fetchone()
    return bool(row and row[0])


def _open(tx: Transaction, file_id: str, by: str) -> Stored:
    stored = get(tx, file_id)
    audit(tx, "file.read", "file", file_id, patient=stored.patient, detail={"by": by})
    return stored


def reseal(database: RecordsDatabase, most: int = 1000) -> int:
    """Wrap every file's key and name by the ring's current key; returns how many were changed."""
    changed = 0
    after = ""
    while True:
        with database.service("files") as tx:
            rows = tx.connection.execute(
                "SELECT id, sealed_key, name FROM files WHERE id > %s ORDER BY id LIMIT %s FOR UPDATE", (after, most)
            ).fetchall()
            for file_id, key, name in rows:
                new = sealing.rewrap(tx.keys, key), sealing.rewrap(tx.keys, name)
                if new != (bytes(key), bytes(name)):
                    tx.connection.execute(
                        "UPDATE files SET sealed_key = %s, name = %s WHERE id = %s", (*new, file_id)
                    )  # fmt: skip
                    changed += 1
        if not rows:
            return changed
        after = rows[-1][0]
