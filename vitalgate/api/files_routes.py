"""Files: upload, download by range, signed links. Who may see one, the database decides by the records that name it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from vitalgate.api import ecg_files, encodings, files_table, links, media, ranges
from vitalgate.api.chunks import BrokenFile
from vitalgate.api.downsample import edges_of, min_max
from vitalgate.api.entry import Anybody, Caller, actor_of, services_of
from vitalgate.api.file_store import StoreAway, TooLarge
from vitalgate.api.files_table import Stored
from vitalgate.api.openapi import problem_responses
from vitalgate.api.problems import Problem
from vitalgate.api.replies import reply

_ERRORS = problem_responses(403, 404, 409, 413, 415, 416, 422)
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": _BYTES, "application/pdf": _BYTES, "image/png": _BYTES,
                    "application/dicom": _BYTES, "application/zip": _BYTES},
    }
}  # fmt: skip
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"application/octet-stream": _BYTES}},
    206: {"description": "The range of it.", "content": {"application/octet-stream": _BYTES}},
    **_ERRORS,
}
_NO_ZERO = r"^[^\x00]*$"


def _away(error: Exception) -> Problem:
    return Problem(503, "unavailable", f"{error}.", headers={"Retry-After": "5"})


def router() -> APIRouter:
    """Routes below /v1/files."""
    made = APIRouter(prefix="/v1/files", tags=["Files"], responses=_ERRORS)

    @made.post("", status_code=201, operation_id="upload_file", openapi_extra=_UPLOAD)
    async def upload(
        request: Request, caller: Caller,
        patient: Annotated[str, Query(min_length=1, max_length=64, pattern=_NO_ZERO)],
        name: Annotated[str, Query(max_length=500, pattern=_NO_ZERO)] = "",
    ) -> Response:  # fmt: skip
        """Upload a file of a patient as the request's body; its type is told from its bytes.

        WFDB records are uploaded as a ZIP of their header and signal files. The answer goes into `reportData` of a
        report or `attachments` of a message; until it does, only you see the file.
        """
        services = services_of(request)
        await run_in_threadpool(files_table.check_upload, caller, patient)
        body = request.stream()
        first = b""
        async for part in body:
            first += part
            if len(first) >= media.SNIFF:
                break
        kind = media.sniff(first)

        async def whole() -> AsyncIterator[bytes]:
            yield first
            async for part in body:
                yield part

        file_id = secrets.token_hex(16)
        try:
            kept = await services.files.put(file_id, whole())
        except TooLarge as error:
            limit = services.settings.api.upload_max_mb
            raise Problem(413, "too-large", f"The file is longer than {limit} MiB (api.upload_max_mb).") from error
        except StoreAway as error:
            raise _away(error) from error
        try:
            stored = await run_in_threadpool(
                files_table.add, caller, file_id, patient, media.file_name(name), kind, kept
            )  # fmt: skip
        except BaseException:
            await services.files.delete(file_id)
            raise
        return reply(stored.reference(), 201, {"location": f"/v1/files/{file_id}"})

    @made.get("/{id}", operation_id="read_file")
    def about(id: str, caller: Caller) -> Response:
        """What is known of a file: name, type, size, SHA-256."""
        with caller.acting() as tx:
            return reply(files_table.get(tx, id).document())

    @made.get("/{id}/link", operation_id="link_file")
    def link(id: str, caller: Caller) -> Response:
        """A link that needs no token: it works for a while, as long as you may see the file."""
        services = caller.services
        with caller.acting() as tx:
            files_table.get(tx, id)
            actor = actor_of(tx)
        expires = int(services.clock()) + services.settings.api.link_s
        holder = f"{actor.user_id}:{actor.role.value}:{actor.session_id}"
        signature = links.sign(services.ring, id, holder, expires)
        url = f"{services.base_url}/v1/files/{id}/shared?holder={holder}&expires={expires}&signature={signature}"
        return reply({"url": url, "expires": expires})

    @made.get("/{id}/content", operation_id="download_file", responses=_CONTENT, response_class=Response)
    async def content(id: str, request: Request, caller: Caller) -> Response:
        """The file, or the byte range that is asked for."""
        stored = await run_in_threadpool(files_table.open_for, caller, id)
        return await _serve(request, stored)

    @made.get("/{id}/waveforms", operation_id="file_waveforms")
    async def waveforms(
        id: str, request: Request, caller: Caller,
        pixels: Annotated[int, Query(ge=0, le=20_000, description="0: every sample.")] = 0,
    ) -> Response:  # fmt: skip
        """The waveforms that a DICOM-ECG or WFDB file carries; with `pixels`, the least and greatest value of each."""
        stored = await run_in_threadpool(files_table.open_for, caller, id)
        if not ecg_files.carries_waveforms(stored.media_type):
            raise Problem(422, "no-waveforms", f"A file of type {stored.media_type} carries no waveforms.")
        content = b"".join([part async for part in _whole(request, stored)])
        found = await run_in_threadpool(ecg_files.read, stored.media_type, content)
        return await run_in_threadpool(_channels, id, found, pixels)

    @made.get("/{id}/shared", operation_id="download_shared_file", responses=_CONTENT, response_class=Response)
    async def shared(
        id: str, request: Request, anybody: Anybody,
        holder: Annotated[str, Query(max_length=200, pattern=_NO_ZERO)],
        expires: Annotated[int, Query(ge=0, le=2**40)],
        signature: Annotated[str, Query(max_length=200, pattern=_NO_ZERO)],
    ) -> Response:  # fmt: skip
        """The file by a signed link."""
        services = services_of(request)
        anybody.limit_anonymous()
        links.check(services.ring, id, holder, expires, signature, services.clock())
        stored = await run_in_threadpool(files_table.open_shared, anybody, id, holder)
        return await _serve(request, stored)

    return made


def _channels(file: str, found: list[ecg_files.Channel], pixels: int) -> Response:
    body = []
    for one in found:
        about: dict[str, Any] = {"name": one.name, "rate": one.rate, "unit": one.unit, "count": len(one.samples)}
        if pixels:
            columns = min_max(one.samples, edges_of(len(one.samples), min(pixels, len(one.samples))))
            about |= {"low": columns.low, "high": columns.high}
        else:
            about["samples"] = one.samples
        body.append(about)
    return Response(encodings.document({"file": file, "channels": body}, encodings.JSON), media_type=encodings.JSON)


async def _whole(request: Request, stored: Stored) -> AsyncIterator[bytes]:
    store = services_of(request).files
    try:
        async for part in store.read(stored.id, stored.sealed_key, stored.size, 0, stored.size):
            yield part
    except StoreAway as error:
        raise _away(error) from error
    except BrokenFile as error:
        raise _broken() from error


def _broken() -> Problem:
    return Problem(500, "broken-file", "The stored file was changed; it is not given out.")


async def _serve(request: Request, stored: Stored) -> Response:
    etag = f'"{stored.sha256.hex()}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": etag})
    wanted = ranges.parse(request.headers.get("range"), stored.size)
    if wanted and request.headers.get("if-range", etag) != etag:
        wanted = None
    first, stop = wanted or (0, stored.size)
    headers = {
        "content-length": str(stop - first),
        "accept-ranges": "bytes",
        "etag": etag,
        "content-disposition": f"attachment; filename*=UTF-8''{stored.quoted_name}",
        "repr-digest": f"sha-256=:{stored.digest_base64}:",
    }
    if wanted:
        headers["content-range"] = f"bytes {first}-{stop - 1}/{stored.size}"
    store = services_of(request).files
    parts = store.read(stored.id, stored.sealed_key, stored.size, first, stop)
    try:
        # The first part before the answer begins, so that a missing or broken file is an error and no cut answer.
        head = await anext(parts, b"")
    except StoreAway as error:
        raise _away(error) from error
    except BrokenFile as error:
        raise _broken() from error

    async def whole() -> AsyncIterator[bytes]:
        yield head
        async for part in parts:
            yield part

    return StreamingResponse(whole(), 206 if wanted else 200, headers, stored.media_type)
