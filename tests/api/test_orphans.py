"""Files that no record names go after their time; those that one names, or once did, stay; each removal is audited."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.api.conftest import Api
from vitalgate.api import files_table
from vitalgate.api.orphans import GRACE, Removed, tidy

PDF = b"%PDF-1.7 nothing to see"


def _upload(api: Api) -> dict[str, object]:
    with api.client("carla") as carla:
        answer = carla.post("/v1/files", params={"patient": "p-anna", "name": "a.pdf"}, content=PDF)
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


def _tidy(api: Api, *, look: bool = False, later: timedelta = GRACE + timedelta(minutes=1)) -> Removed:
    services = api.services
    return asyncio.run(tidy(services.database, services.files, look=look, now=datetime.now(UTC) + later))


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*") if file.is_file()}


def _stray(api: Api) -> str:
    """An object whose upload never came to its row."""
    identity = secrets.token_hex(16)

    async def content() -> AsyncIterator[bytes]:
        yield PDF

    asyncio.run(api.services.files.put(identity, content()))
    return identity


def test_what_no_record_names_goes_after_its_time(
    api: Api, files_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tidy(api)  # what other tests left
    (files_folder / "README").write_text("not ours")
    sent, once, never = _upload(api), _upload(api), _upload(api)
    stray = _stray(api)

    def fails(*_: object) -> None:
        raise ConnectionResetError("the transaction was lost")

    with api.client("carla") as carla, monkeypatch.context() as patch:
        patch.setattr(files_table, "add", fails)
        before = _names(files_folder)
        assert carla.post("/v1/files", params={"patient": "p-anna", "name": "b"}, content=PDF).status_code == 500
        assert _names(files_folder) == before  # taken away again at once
    with api.client("carla") as carla:
        assert carla.post("/v1/messages", json={"patient": "p-anna", "body": "x", "attachments": [sent]}).is_success
        report = carla.post(
            "/v1/ecg-reports", json={"patient": "p-anna", "reportType": "12-lead", "reportData": [once]}
        ).json()
        assert carla.patch(f"/v1/ecg-reports/{report['id']}", json={"reportData": []}).status_code == 200
        assert _tidy(api, later=GRACE - timedelta(minutes=1)) == Removed(0, 0, 0)
        looked = _tidy(api, look=True)
        assert (looked.unnamed, looked.strays) == (1, 1) and looked.size > len(PDF)
        assert carla.get(f"/v1/files/{never['file']}").status_code == 200
        assert _tidy(api) == looked
        assert carla.get(f"/v1/files/{never['file']}").status_code == 404
        for kept in (sent, once):
            assert carla.get(f"/v1/files/{kept['file']}/content").content == PDF
    there = _names(files_folder)
    assert {str(sent["file"]), str(once["file"]), "README"} <= there and not there & {str(never["file"]), stray}
    with api.services.database.service("service:test") as tx:
        rows = tx.execute(
            "SELECT entity_id, patient_id, who, detail->>'because' FROM audit_outbox WHERE action = 'file.remove'"
            " AND entity_id = ANY(%s)", ([never["file"], stray],),
        ).fetchall()  # fmt: skip
    assert sorted(rows) == sorted([
        (never["file"], "p-anna", "service:files", "no record names it"),
        (stray, None, "service:files", "the database does not know it"),
    ])  # fmt: skip
    assert _tidy(api) == Removed(0, 0, 0)


def test_a_grace_that_could_hit_an_upload_is_refused(api: Api) -> None:
    with pytest.raises(ValueError, match="below 1:00:00"):
        asyncio.run(tidy(api.services.database, api.services.files, grace=timedelta(minutes=5)))
