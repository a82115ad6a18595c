"""REST: records through their lives, conditions, paging, idempotency, problems; by curl where a shell would."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api


def _report(client: httpx.Client, patient: str, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/ecg-reports", json={"patient": patient, "reportType": "strip", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_report_lives_from_draft_to_amended_and_its_patient_sees_it_once_published(api: Api) -> None:
    with api.client("carla") as carla, api.client("anna") as anna:
        report = _report(carla, "p-anna")
        assert report["status"] == "draft" and report["version"] == 1
        path = f"/v1/ecg-reports/{report['id']}"
        assert anna.get(path).status_code == 404
        empty = carla.post(f"{path}/finalise")
        assert empty.status_code == 422 and empty.headers["content-type"] == "application/problem+json"
        final = carla.post(f"{path}/finalise", json={"conclusion": "Sinus rhythm", "resultData": {"rate": 61}})
        assert final.status_code == 200 and final.json()["status"] == "final"
        assert carla.patch(path, json={"conclusion": "no"}).status_code == 409
        assert carla.post(f"{path}/publish").status_code == 200
        seen = anna.get(path)
        assert seen.status_code == 200 and seen.json()["resultData"]["rate"] == 61
        assert anna.post(f"{path}/amend", json={"conclusion": "mine"}).status_code == 403
        amended = carla.post(f"{path}/amend", json={"conclusion": "Sinus rhythm, 62/min"})
        assert amended.json()["version"] == 4
        versions = carla.get(f"{path}/versions").json()["data"]
        assert [one["version"] for one in versions] == [1, 2, 3, 4]


def test_a_stranger_finds_nothing(api: Api) -> None:
    with api.client("carla") as carla, api.client("dora") as dora, api.client("bert") as bert:
        report = _report(carla, "p-anna")
        for client in (dora, bert):
            assert client.get(f"/v1/ecg-reports/{report['id']}").status_code == 404
            assert client.get("/v1/ecg-reports", params={"patient": "p-anna"}).json()["data"] == []
            assert client.post(f"/v1/ecg-reports/{report['id']}/cancel").status_code == 404
        made = dora.post("/v1/ecg-reports", json={"patient": "p-anna", "reportType": "strip"})
        assert made.status_code in (403, 404, 422)


def test_lost_updates_are_refused(api: Api) -> None:
    with api.client("carla") as carla:
        report = _report(carla, "p-anna")
        path = f"/v1/ecg-reports/{report['id']}"
        etag = carla.get(path).headers["etag"]
        assert etag == '"1"'
        first = carla.patch(path, json={"conclusion": "one"}, headers={"if-match": etag})
        assert first.status_code == 200 and first.headers["etag"] == '"2"'
        second = carla.patch(path, json={"conclusion": "two"}, headers={"if-match": etag})
        assert second.status_code == 412 and second.json()["type"] == "urn:vitalgate:problem:changed"
        assert carla.get(path, headers={"if-none-match": '"2"'}).status_code == 304


def test_a_request_that_is_sent_again_is_done_once(api: Api) -> None:
    key = {"idempotency-key": str(uuid.uuid4())}
    body = {"patient": "p-anna", "body": "sent twice"}
    with api.client("anna") as anna:
        first = anna.post("/v1/messages", json=body, headers=key)
        second = anna.post("/v1/messages", json=body, headers=key)
        assert first.status_code == second.status_code == 201
        assert first.json() == second.json() and second.headers["idempotent-replay"] == "true"
        other = anna.post("/v1/messages", json={**body, "body": "another"}, headers=key)
        assert other.status_code == 422 and other.json()["type"].endswith("key-reused")
        # Without a change nothing is remembered: a refused request may be sent again, mended.
        bad = {"idempotency-key": str(uuid.uuid4())}
        assert anna.post("/v1/messages", json={"patient": "p-anna"}, headers=bad).status_code == 422
        assert anna.post("/v1/messages", json=body, headers=bad).status_code == 201


def test_lists_are_filtered_sorted_paged_and_cut(api: Api) -> None:
    with api.client("carla") as carla:
        made = [_report(carla, "p-anna", reportType="holter", source="hand")["id"] for _ in range(5)]
        found: list[str] = []
        path = "/v1/ecg-reports?patient=p-anna&reportType=holter&limit=2&sort=createdAt&fields=id,status"
        while path:
            page = carla.get(path)
            assert page.status_code == 200, page.text
            assert all(set(one) == {"id", "status"} for one in page.json()["data"])
            found += [one["id"] for one in page.json()["data"]]
            path = page.links.get("next", {}).get("url", "")
        assert found == made
        none = carla.get("/v1/ecg-reports", params={"reportedAt[ge]": "2999-01-01T00:00:00Z"})
        assert none.json() == {"data": [], "next": None}
        two = carla.get("/v1/ecg-reports", params=[("status", "draft"), ("status", "final"), ("limit", "1")])
        assert two.json()["data"][0]["status"] in ("draft", "final")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("colour=red", "there is no parameter"), ("status=blue&status[ge]=x", "no order"),
        ("sort=conclusion", "cannot be sorted"), ("fields=nothing", "no field"), ("limit=0", "from 1 to 500"),
        ("reportedAt[ge]=tomorrow", "no value of"), ("after=%00", "zero byte"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_query_is_said(api: Api, query: str, says: str) -> None:
    with api.client("carla") as carla:
        answer = carla.get(f"/v1/ecg-reports?{query}")
        assert answer.status_code == 400, answer.text
        assert says in answer.json()["detail"].lower() or says in answer.json()["detail"]


def test_both_spellings_are_taken_and_served(api: Api) -> None:
    with api.client("anna") as anna:
        first = anna.post("/v1/messages", json={"patient": "p-anna", "body": "hello"}).json()
        assert first["conversationId"] == first["threadId"]
        assert first["from"] == first["sender"] == api.people["anna"].user
        answer = anna.post(
            "/v1/user-messages", json={"patient": "p-anna", "body": "again", "threadId": first["threadId"]}
        )
        assert answer.status_code == 201 and answer.json()["conversationId"] == first["threadId"]
        profile = anna.get("/v1/patients/p-anna").json()
        assert profile["fullName"] == profile["displayName"] == "Anna" and profile["dob"] == profile["dateOfBirth"]


def test_no_double_booking(api: Api) -> None:
    slot = {"patient": "p-anna", "provider": "c-carla", "startAt": "2031-05-01T09:00:00Z"}
    with api.client("carla") as carla:
        assert carla.post("/v1/appointments", json={**slot, "endAt": "2031-05-01T10:00:00Z"}).status_code == 201
        twice = carla.post("/v1/appointments", json={**slot, "endAt": "2031-05-01T09:30:00Z"})
        assert twice.status_code == 409 and "another appointment" in twice.json()["detail"]


def test_an_appointment_as_a_calendar_file(api: Api) -> None:
    from icalendar import Calendar

    with api.client("carla") as carla, api.client("anna") as anna:
        made = carla.post("/v1/appointments", json={
            "patient": "p-anna", "provider": "c-carla", "startAt": "2031-06-01T09:00:00Z",
            "endAt": "2031-06-01T09:30:00Z", "location": "Room 2", "reason": "secret reason",
        }).json()  # fmt: skip
        file = anna.get(f"/v1/appointments/{made['id']}/calendar")
        assert file.headers["content-type"].startswith("text/calendar")
        (event,) = Calendar.from_ical(file.content).walk("VEVENT")
        assert event["LOCATION"] == "Room 2" and "secret" not in file.text and event["SEQUENCE"] == 0
        moved = carla.post(
            f"/v1/appointments/{made['id']}/reschedule",
            json={"startAt": "2031-06-02T09:00:00Z", "endAt": "2031-06-02T09:30:00Z"},
        )
        assert moved.status_code == 200
        (event,) = Calendar.from_ical(anna.get(f"/v1/appointments/{made['id']}/calendar").content).walk("VEVENT")
        assert event["SEQUENCE"] == 1 and event["DTSTART"].dt.day == 2


def test_every_error_is_a_problem_document(api: Api) -> None:
    with api.client() as nobody, api.client("anna") as anna:
        for answer, status in (
            (nobody.get("/v1/messages"), 401), (nobody.get("/nowhere"), 404), (nobody.put("/v1/messages"), 405),
            (anna.post("/v1/messages", content=b"{"), 400), (anna.post("/v1/messages", content=b"[]"), 400),
            (anna.get("/v1/messages/none"), 404), (nobody.post("/v1/auth/log-in", json={"email": "x"}), 422),
            (anna.post("/v1/messages", json={"patient": "p-anna", "body": "\x00"}), 422),
            (anna.post("/v1/messages", content=b"x" * 1_100_000), 413),
            (anna.get("/v1/messages", headers={"x-role": "administrator"}), 403),
        ):  # fmt: skip
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            body = answer.json()
            assert body["status"] == status and body["title"] and body["detail"]
            assert body["instance"].endswith(answer.headers["x-request-id"])


def test_curl_reads_with_ids_gzip_and_security_headers(api: Api) -> None:
    token = api.people["anna"].tokens["accessToken"]
    run = subprocess.run(
        ["curl", "-sS", "-D", "-", "--compressed", "-H", f"Authorization: Bearer {token}", "-H", "X-Request-ID: me-1",
         f"{api.url}/v1/openapi.json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    head, _, body = run.stdout.replace("\r", "").partition("\n\n")
    head = head.lower()
    assert "x-request-id: me-1" in head and "content-encoding: gzip" in head
    assert "x-content-type-options: nosniff" in head and "cache-control: no-store" in head
    assert json.loads(body)["openapi"] == "3.1.0"


def test_threads_people_and_unread(api: Api) -> None:
    with api.client("anna") as anna, api.client("carla") as carla:
        people = anna.get("/v1/patients/p-anna/people").json()["data"]
        assert {one["clinician"] for one in people} == {None, "c-carla"}
        sent = carla.post("/v1/messages", json={"patient": "p-anna", "body": "How are you?"}).json()
        before = anna.get("/v1/threads/unread").json()["total"]
        assert before >= 1
        threads = anna.get("/v1/threads").json()["data"]
        assert sent["conversationId"] in {one["conversationId"] for one in threads}
        assert anna.post(f"/v1/messages/{sent['id']}/mark-read").json()["isRead"] is True
        assert anna.get("/v1/threads/unread").json()["total"] == before - 1
        assert carla.get("/v1/my/patients").json()["data"] == ["p-anna"]


def test_break_glass_opens_a_record_for_a_while(api: Api) -> None:
    with api.client("dora") as dora, api.client("bert") as bert:
        assert dora.get("/v1/patients/p-bert/relation").json()["relation"] == "stranger"
        found = dora.get("/v1/patients/search", params={"medicalRecordNumber": "MRN-bert"})
        assert found.json() == {"patient": "p-bert"}
        assert dora.post("/v1/patients/p-bert/break-glass", json={"reason": "no"}).status_code == 422
        opened = dora.post("/v1/patients/p-bert/break-glass", json={"reason": "unconscious in the emergency room"})
        assert opened.status_code == 201
        assert dora.get("/v1/patients/p-bert").json()["displayName"] == "Bert"
        log = bert.get("/v1/audit-log", params={"patient": "p-bert", "limit": 500}).json()["data"]
        assert any(one["action"] == "patient_profile.read" and "dora" not in one["actor"] for one in log)
        assert dora.post("/v1/patients/p-bert/break-glass/end").status_code == 204
        assert dora.get("/v1/patients/p-bert").status_code == 404
