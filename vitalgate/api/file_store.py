"""Where files lie: a local directory or an S3 bucket, always encrypted before they get there."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from vitalgate.api.chunks import PLAIN, BrokenFile, Sealer, chunk_count, span
from vitalgate.config.loading import SettingsError
from vitalgate.config.settings import ApiSettings
from vitalgate.pki import sealing
from vitalgate.pki.keyring import KeyRing

KEY_BYTES: Final = 32
#: What we call objects; whatever else lies there is not ours.
_ID: Final = re.compile(r"[0-9a-f]{32}")
#: Chunks read at once for a download: half a megabyte.
_AT_ONCE = 8


class TooLarge(Exception):
    """A file is longer than the limit."""


class StoreAway(Exception):
    """The file store does not answer, or does not have the object."""


@dataclass(frozen=True)
class Kept:
    """What was kept of an upload."""

    size: int
    sha256: bytes
    sealed_key: bytes
    """The file's key, wrapped by the ring's current key."""


def open_store(settings: ApiSettings) -> ObjectStore:
    """The store that the settings name.

    Raises
    ------
    SettingsError
        When `api.files` is neither a directory nor an S3 address, or has no usable credentials.
    """
    url = settings.files
    if not url.startswith("s3://"):
        folder = Path(url.removeprefix("file://")).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(f"api.files names {folder}, which cannot be made: {error.strerror}") from error
        return LocalStore(folder)
    parts = urlsplit(url)
    if not parts.hostname:
        raise SettingsError(f"api.files is {url!r}; an S3 address is s3://BUCKET or s3://BUCKET/PREFIX")
    options: dict[str, str] = {"region": settings.files_region}
    if settings.files_endpoint:
        options["endpoint"] = settings.files_endpoint
        options["virtual_hosted_style_request"] = "false"
    if settings.files_credentials_file:
        try:
            key, secret = Path(settings.files_credentials_file).read_text(encoding="utf-8").split()
        except (OSError, ValueError) as error:
            raise SettingsError("api.files_credentials_file must hold an access key id and a secret key") from error
        options |= {"access_key_id": key, "secret_access_key": secret}
    plain = settings.files_endpoint.startswith("http://")
    return S3Store(
        parts.hostname,
        prefix=parts.path.strip("/") or None,
        config=options,  # type: ignore[arg-type]  # a TypedDict of the same keys
        client_options={"allow_http": plain, "timeout": "30s"},
        retry_config={"max_retries": 3},
    )


class FileStore:
    """Encrypted files in an object store.

    Parameters
    ----------
    ring
        Wraps the key of each file.
    most
        Longest file, bytes.
    """

    def __init__(self, store: ObjectStore, ring: KeyRing, most: int) -> None:
        self._store = store
        self._ring = ring
        self._most = most

    async def put(self, file_id: str, content: AsyncIterator[bytes]) -> Kept:
        """Encrypt and keep a file as it comes.

        Raises
        ------
        TooLarge
            When it is longer than the limit; nothing is kept then.
        StoreAway
            When the store does not take it.
        """
        key = secrets.token_bytes(KEY_BYTES)
        sealer = Sealer(key, file_id)
        digest = hashlib.sha256()
        size = 0

        async def sealed() -> AsyncIterator[bytes]:
            nonlocal size
            held, number = bytearray(), 0
            async for part in content:
                size += len(part)
                if size > self._most:
                    raise TooLarge
                digest.update(part)
                held += part
                while len(held) > PLAIN:  # one chunk is held back: it may be the last
                    yield sealer.seal(number, bytes(held[:PLAIN]), False)
                    del held[:PLAIN]
                    number += 1
            yield sealer.seal(number, bytes(held), True)

        try:
            await obstore.put_async(self._store, _path(file_id), sealed())
        except TooLarge:
            raise
        except (BaseError, OSError) as error:
            raise StoreAway(f"the file store did not take a file: {type(error).__name__}") from error
        except Exception as error:
            if size > self._most:  # the library passes the iterator's exception on as its own
                raise TooLarge from error
            raise
        return Kept(size, digest.digest(), sealing.seal(self._ring, key, _context(file_id)))

    async def read(self, file_id: str, sealed_key: bytes, size: int, first: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes [first, stop) of a file.

        Raises
        ------
        StoreAway
            When the store does not have it.
        BrokenFile
            When what it has was changed.
        """
        try:
            sealer = Sealer(sealing.unseal(self._ring, sealed_key, _context(file_id)), file_id)
        except sealing.SealError as error:
            raise BrokenFile(str(error)) from error
        whole = span(size, first, stop)
        left, skip, chunks = whole.length, whole.skip, chunk_count(size)
        at, number = whole.start, whole.first_chunk
        step = _AT_ONCE * (PLAIN + 16)
        while at < whole.stop:
            end = min(at + step, whole.stop)
            try:
                sealed = bytes(await obstore.get_range_async(self._store, _path(file_id), start=at, end=end))
            except (BaseError, OSError) as error:
                raise StoreAway(f"a file cannot be read from the store: {type(error).__name__}") from error
            # All of a piece is proven before any of it is given out.
            for plain in list(sealer.open(number, sealed, chunks)):
                part = plain[skip : skip + left]
                skip = 0
                left -= len(part)
                number += 1
                yield part
            at = end
        if left:
            raise BrokenFile(f"a stored file is {left} bytes shorter than what is known of it")

    async def delete(self, file_id: str) -> None:
        """Take an object away; one that is not there is fine."""
        try:
            await obstore.delete_async(self._store, _path(file_id))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreAway(f"a file cannot be deleted from the store: {type(error).__name__}") from error

    async def older_than(self, moment: datetime) -> AsyncIterator[list[tuple[str, int]]]:
        """Objects that were written before a moment, in batches: (file id, bytes as stored).

        Raises
        ------
        StoreAway
            When the store does not answer.
        """
        try:
            async for batch in obstore.list(self._store):
                found = [
                    (meta["path"].rsplit("/", 1)[-1], int(meta["size"]))
                    for meta in batch
                    if meta["last_modified"] < moment and _ID.fullmatch(meta["path"].rsplit("/", 1)[-1])
                ]
                if found:
                    yield found
        except (BaseError, OSError) as error:
            raise StoreAway(f"the file store cannot be listed: {type(error).__name__}") from error

    def rewrap(self, sealed_key: bytes) -> bytes:
        """The key of a file under the ring's current key; the file itself is not touched."""
        return sealing.rewrap(self._ring, sealed_key)


def _path(file_id: str) -> str:
    return f"{file_id[:2]}/{file_id}"


def _context(file_id: str) -> str:
    return f"file/{file_id}/key"
