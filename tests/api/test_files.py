"""Files: kept encrypted, seen by who sees the record that names them, by range, by link; on S3 too; rotated."""

from __future__ import annotations

import hashlib
import io
import subprocess
import zipfile
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from tests.api.conftest import Api
from vitalgate.api import ecg_files, files_table
from vitalgate.api.chunks import BrokenFile
from vitalgate.api.file_store import FileStore, Kept, TooLarge, open_store
from vitalgate.api.problems import Problem
from vitalgate.config.settings import Settings
from vitalgate.pki.keyring import new_ring, rotated

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 800


def _upload(api: Api, name: str, content: bytes = PDF, file: str = "report.pdf") -> dict[str, object]:
    with api.client(name) as client:
        answer = client.post("/v1/files", params={"patient": "p-anna", "name": file}, content=content)
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


def test_a_file_goes_with_the_report_that_names_it(api: Api, files_folder: Path) -> None:
    reference = _upload(api, "carla", file="../../Anna's ECG.pdf")
    assert reference["mediaType"] == "application/pdf" and reference["size"] == len(PDF)
    assert reference["sha256"] == hashlib.sha256(PDF).hexdigest() and reference["name"] == "Anna's ECG.pdf"
    path = f"/v1/files/{reference['file']}"
    with api.client("carla") as carla, api.client("anna") as anna, api.client("dora") as dora:
        assert carla.get(f"{path}/content").content == PDF
        assert anna.get(path).status_code == dora.get(path).status_code == 404
        report = carla.post("/v1/ecg-reports", json={
            "patient": "p-anna", "reportType": "12-lead", "reportData": [reference],
        }).json()  # fmt: skip
        assert anna.get(path).status_code == 404
        carla.post(f"/v1/ecg-reports/{report['id']}/finalise")
        assert carla.post(f"/v1/ecg-reports/{report['id']}/publish").status_code == 200
        got = anna.get(f"{path}/content")
        assert got.content == PDF and got.headers["content-disposition"].startswith("attachment")
        assert dora.get(f"{path}/content").status_code == 404
        log = anna.get("/v1/audit-log", params={"patient": "p-anna", "action": "file.read", "limit": 50}).json()["data"]
        assert {one["entityId"] for one in log} >= {reference["file"]}
    stored = [file.read_bytes() for file in files_folder.rglob("*") if file.is_file()]
    assert stored and not any(b"%PDF" in content for content in stored)


def test_curl_takes_a_range_by_a_signed_link_until_the_session_ends(api: Api) -> None:
    reference = _upload(api, "anna")
    with api.client("anna") as anna:
        url = anna.get(f"/v1/files/{reference['file']}/link").json()["url"]
    run = subprocess.run(
        ["curl", "-sS", "-r", "65000-70000", "-w", "%{http_code}", url], capture_output=True, check=True
    )
    assert run.stdout == PDF[65000:70001] + b"206"
    tampered = url.replace("expires=", "expires=9")
    with api.client() as nobody:
        assert nobody.get(tampered).status_code == 403
        assert nobody.get(url, headers={"range": "bytes=999999999-"}).status_code == 416
        tokens = nobody.post(
            "/v1/auth/log-in", json={"email": api.people["anna"].email, "password": "wheel-otter-lantern-42"}
        ).json()
        headers = {"authorization": f"Bearer {tokens['accessToken']}"}
        other = nobody.get(f"/v1/files/{reference['file']}/link", headers=headers).json()["url"]
        assert nobody.get(other).status_code == 200
        nobody.post("/v1/auth/log-out", headers=headers)
        assert nobody.get(other).status_code == 403


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"<html><script>alert(1)</script>", 415), (b"\x7fELF" + bytes(100), 415), (b"%PDF" + bytes(3_000_000), 413)],
)
def test_what_is_not_taken_leaves_nothing_behind(api: Api, files_folder: Path, content: bytes, status: int) -> None:
    before = sorted(files_folder.rglob("*"))
    with api.client("anna") as anna, api.client("dora") as dora:
        assert anna.post("/v1/files", params={"patient": "p-anna"}, content=content).status_code == status
        assert dora.post("/v1/files", params={"patient": "p-anna"}, content=PDF).status_code == 404
    assert [file for file in sorted(files_folder.rglob("*")) if file.is_file()] == [
        file for file in before if file.is_file()
    ]


def test_a_changed_file_is_not_given_out(api: Api, files_folder: Path) -> None:
    reference = _upload(api, "anna")
    (file,) = files_folder.rglob(str(reference["file"]))
    content = bytearray(file.read_bytes())
    content[70_000] ^= 1
    file.write_bytes(content)
    with api.client("anna") as anna:
        assert anna.get(f"/v1/files/{reference['file']}/content").status_code == 500
        part = anna.get(f"/v1/files/{reference['file']}/content", headers={"range": "bytes=0-99"})
        assert part.status_code == 206 and part.content == PDF[:100]


def test_keys_are_rotated_without_touching_the_files(api: Api) -> None:
    reference = _upload(api, "anna")
    new = rotated(api.services.ring, date(2026, 5, 5))
    services = api.services
    old = services.ring
    try:
        services.database.keys = services.ring = services.files._ring = new
        assert files_table.reseal(services.database) >= 1
        assert files_table.reseal(services.database) == 0
        with api.client("anna") as anna:
            assert anna.get(f"/v1/files/{reference['file']}/content").content == PDF
    finally:
        services.database.keys = services.ring = services.files._ring = rotated(old, date(2026, 5, 6))
        services.database.keys = services.ring = services.files._ring = new


async def _parts(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 50_000):
        yield content[at : at + 50_000]


async def _read(store: FileStore, name: str, kept: Kept, first: int, stop: int) -> bytes:
    return b"".join([part async for part in store.read(name, kept.sealed_key, kept.size, first, stop)])


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 700_000])
def test_the_same_on_an_s3_server(size: int, s3: Settings) -> None:
    import asyncio

    content = bytes(n % 251 for n in range(size))
    store = FileStore(open_store(s3.api), new_ring(date(2026, 1, 1)), 1_000_000)

    async def run() -> None:
        kept = await store.put("f" * 32, _parts(content))
        assert kept.size == size and kept.sha256 == hashlib.sha256(content).digest()
        assert await _read(store, "f" * 32, kept, 0, size) == content
        if size > 10:
            assert await _read(store, "f" * 32, kept, size - 7, size - 2) == content[-7:-2]
        with pytest.raises(BrokenFile):
            await _read(store, "f" * 32, Kept(size + 1, kept.sha256, kept.sealed_key), 0, size + 1)
        with pytest.raises(TooLarge):
            await store.put("e" * 32, _parts(bytes(1_000_001)))
        await store.delete("f" * 32)
        await store.delete("f" * 32)

    asyncio.run(run())


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A bucket on a server of S3's interface."""
    import boto3

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    ).create_bucket(Bucket="files")
    credentials = tmp_path_factory.mktemp("s3") / "credentials"
    credentials.write_text("a b\n")
    return Settings.model_validate({
        "api": {"files": "s3://files/kept", "files_endpoint": url, "files_credentials_file": str(credentials)}
    })  # fmt: skip


def _wfdb(folder: Path) -> bytes:
    import wfdb

    signal = np.column_stack([np.sin(np.arange(500) / 10), np.cos(np.arange(500) / 10)])
    wfdb.wrsamp("r1", 250, ["mV", "mV"], ["I", "II"], signal, fmt=["16", "16"], write_dir=str(folder))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("r1.hea", "r1.dat"):
            archive.write(folder / name, f"some/folder/{name}")
    return packed.getvalue()


def _dicom() -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def coded(value: str, meaning: str) -> Dataset:
        made = Dataset()
        made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, "MDC", meaning
        return made

    samples = np.column_stack([np.arange(100), -np.arange(100)]).astype("<i2")
    group = Dataset()
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = 2, 100
    group.SamplingFrequency = "500"
    channels = []
    for name in ("Lead I", "Lead II"):
        channel = Dataset()
        channel.ChannelSourceSequence = [coded("2:1", name)]
        channel.ChannelSensitivity, channel.ChannelBaseline = "2", "0"
        channel.ChannelSensitivityCorrectionFactor = "1"
        channel.ChannelSensitivityUnitsSequence = [coded("uV", "microvolt")]
        channel.WaveformBitsStored = 16
        channels.append(channel)
    group.ChannelDefinitionSequence = channels
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformData = samples.tobytes()
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", generate_uid()
    made.WaveformSequence = [group]
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID, made.SOPInstanceUID,
    )  # fmt: skip
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_waveforms_are_read_out_of_wfdb_and_dicom(api: Api, tmp_path: Path) -> None:
    wfdb_file = _upload(api, "carla", _wfdb(tmp_path), "r1.zip")
    dicom_file = _upload(api, "carla", _dicom(), "r1.dcm")
    with api.client("carla") as carla:
        whole = carla.get(f"/v1/files/{wfdb_file['file']}/waveforms").json()["channels"]
        assert [(one["name"], one["rate"], one["unit"]) for one in whole] == [("I", 250.0, "mV"), ("II", 250.0, "mV")]
        assert np.allclose(whole[0]["samples"], np.sin(np.arange(500) / 10), atol=1e-3)
        drawn = carla.get(f"/v1/files/{dicom_file['file']}/waveforms", params={"pixels": 10}).json()["channels"]
        assert [one["name"] for one in drawn] == ["Lead I", "Lead II"] and drawn[0]["unit"] == "uV"
        assert drawn[0]["low"] == [20.0 * n for n in range(10)]
        assert drawn[0]["high"] == [20.0 * n + 18 for n in range(10)]
        none = carla.get(f"/v1/files/{_upload(api, 'carla')['file']}/waveforms")
        assert none.status_code == 422 and "carries no waveforms" in none.json()["detail"]


@pytest.mark.parametrize("kind", ["application/dicom", "application/zip"])
def test_broken_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    good = _dicom() if kind.endswith("dicom") else _wfdb(tmp_path)
    for bad in (b"", good[: len(good) // 2], bytes(200) + good[200:], good[:150] + bytes(len(good) - 150)):
        with pytest.raises(Problem) as error:
            ecg_files.read(kind, bad)
        assert error.value.status == 422
