"""Two certificate authorities in a directory: one for devices, one for services and servers.

Two, so that no certificate of a device is ever taken by Kafka, and none of a service by the devices' listener::

    devices/ca.pem  devices/ca.key  devices/crl.pem  devices/issued.json
    services/…

What was issued is remembered (serial number, name, end, fingerprint); private keys of what was issued are not. Files
are replaced by one move, under a lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from vitalgate.pki import certificates
from vitalgate.pki.certificates import DAYS, Kind, Pair, PkiError

Branch = Literal["devices", "services"]
BRANCHES: Final[tuple[Branch, ...]] = ("devices", "services")
#: Names that only Vitalgate's own users of the broker have.
RESERVED: Final = "vg-"


@dataclass(frozen=True)
class Issued:
    """One certificate that was issued."""

    serial: str
    """Hex."""
    kind: Kind
    name: str
    issued_at: str
    not_after: str
    fingerprint: str
    hosts: tuple[str, ...] = ()
    revoked_at: str | None = None

    def state(self, now: datetime) -> str:
        """`valid`, `revoked` or `expired`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if datetime.fromisoformat(self.not_after) <= now else "valid"


def branch_of(kind: Kind) -> Branch:
    """The authority that signs a kind."""
    return "devices" if kind == "device" else "services"


class Authority:
    """The authorities of one directory."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def init(self, now: datetime, *, days: int = certificates.CA_DAYS) -> list[Path]:
        """Make the authorities that are not there yet; returns the certificates made."""
        made = []
        for branch in BRANCHES:
            home = self.folder / branch
            home.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            home.chmod(0o700)
            with self._locked(branch):
                if (home / "ca.key").is_file():
                    continue
                pair = certificates.new_authority(f"Vitalgate {branch}", now, days)
                replace(home / "ca.pem", pair.certificate, 0o644)
                self._save(branch, [])
                replace(home / "crl.pem", certificates.revocation_list(pair, [], now, 1), 0o644)
                replace(home / "ca.key", pair.key, 0o600)
                made.append(home / "ca.pem")
        return made

    def ca_file(self, branch: Branch) -> Path:
        """The authority's certificate, for those who shall trust it."""
        return self.folder / branch / "ca.pem"

    def crl_file(self, branch: Branch) -> Path:
        """The list of what was revoked."""
        return self.folder / branch / "crl.pem"

    def issue(
        self, kind: Kind, name: str, now: datetime, *, days: int = DAYS, hosts: Sequence[str] = ()
    ) -> tuple[Issued, Pair]:
        """Make a certificate with a new key, and remember it.

        Raises
        ------
        PkiError
            For a name that cannot be or is reserved, and when there is no authority.
        """
        if kind == "device" and name.startswith(RESERVED):
            raise PkiError(f"{name!r} cannot be a device: names that begin with {RESERVED!r} are Vitalgate's own users")
        branch = branch_of(kind)
        with self._locked(branch):
            pair = certificates.issue(self._signer(branch), kind, name, now, days=days, hosts=hosts)
            parsed = pair.parsed
            entry = Issued(
                f"{parsed.serial_number:x}", kind, name, now.isoformat(), parsed.not_valid_after_utc.isoformat(),
                certificates.fingerprint(parsed), tuple(hosts),
            )  # fmt: skip
            self._save(branch, [*self._load(branch), entry])
        return entry, pair

    def revoke(self, what: str, now: datetime, *, keep: str | None = None) -> list[Issued]:
        """Revoke by name or serial number; `keep` is a serial number that stays. Returns what was revoked.

        Raises
        ------
        PkiError
            When nothing valid has that name or number.
        """
        revoked: list[Issued] = []
        for branch in self._there():
            with self._locked(branch):
                entries = self._load(branch)
                hit = [
                    entry for entry in entries
                    if what in (entry.name, entry.serial) and entry.revoked_at is None and entry.serial != keep
                ]  # fmt: skip
                if not hit:
                    continue
                stamp = now.isoformat()
                entries = [_with_end(entry, stamp) if entry in hit else entry for entry in entries]
                gone = [(int(e.serial, 16), datetime.fromisoformat(e.revoked_at)) for e in entries if e.revoked_at]
                text = certificates.revocation_list(self._signer(branch), gone, now, len(gone) + 1)
                # The list first: who is on it is kept out, whatever happens to us before the record is written.
                replace(self.crl_file(branch), text, 0o644)
                self._save(branch, entries)
                revoked += [_with_end(entry, stamp) for entry in hit]
        if not revoked and keep is None:
            raise PkiError(f"no valid certificate has the name or serial number {what!r}; see `vitalgate ca list`")
        return revoked

    def listed(self) -> list[Issued]:
        """Everything that was issued, oldest first."""
        return sorted(
            (entry for branch in self._there() for entry in self._load(branch)), key=lambda entry: entry.issued_at
        )

    def find(self, what: str) -> Issued:
        """The newest certificate of a name, or that of a serial number. Raises PkiError."""
        for entry in reversed(self.listed()):
            if what in (entry.name, entry.serial):
                return entry
        raise PkiError(f"no certificate has the name or serial number {what!r}; see `vitalgate ca list`")

    def _there(self) -> list[Branch]:
        there = [branch for branch in BRANCHES if self.ca_file(branch).is_file()]
        if not there:
            raise PkiError(f"there is no authority in {self.folder}; make one with `vitalgate ca init`")
        return there

    def _signer(self, branch: Branch) -> Pair:
        home = self.folder / branch
        try:
            return Pair((home / "ca.pem").read_text(encoding="utf-8"), (home / "ca.key").read_text(encoding="utf-8"))
        except OSError as error:
            raise PkiError(
                f"the authority's key in {home} cannot be read ({error.strerror}): `vitalgate ca init` makes one; "
                "to sign, you need the directory that holds it"
            ) from error

    def _load(self, branch: Branch) -> list[Issued]:
        path = self.folder / branch / "issued.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return [Issued(**{**entry, "hosts": tuple(entry["hosts"])}) for entry in document]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PkiError(f"the list of issued certificates, {path}, cannot be read: {error}") from error

    def _save(self, branch: Branch, entries: Sequence[Issued]) -> None:
        text = json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"
        replace(self.folder / branch / "issued.json", text, 0o600)

    @contextmanager
    def _locked(self, branch: Branch) -> Iterator[None]:
        try:
            descriptor = os.open(self.folder / branch / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise PkiError(f"there is no authority in {self.folder} ({error.strerror}); `vitalgate ca init`") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def replace(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file by one move; it never has wider rights than `mode`, not for a moment."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    part.replace(path)


def write_pair(folder: Path, name: str, pair: Pair) -> tuple[Path, Path]:
    """Write `NAME.pem` and `NAME.key`; the key first, so that nobody sees a certificate without it."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    replace(key, pair.key, 0o600)
    replace(certificate, pair.certificate, 0o644)
    return certificate, key


def _with_end(entry: Issued, when: str) -> Issued:
    return Issued(**{**asdict(entry), "hosts": entry.hosts, "revoked_at": when})
