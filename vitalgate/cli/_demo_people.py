"""The demo's people: a patient and a clinician use the API, as their applications would."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from vitalgate.config.settings import Settings

_PATIENCE_S = 20.0


@dataclass
class Shown:
    """What the people saw."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {"steps": self.lines, "faults": self.faults}

    def step(self, good: bool, text: str) -> None:
        """One thing that was tried."""
        self.lines.append(text)
        if not good:
            self.faults.append(f"not so: {text}")


def show_people(settings: Settings, patients: Sequence[str]) -> Shown:
    """The first patient logs in, sees the readings just streamed and writes; the clinician answers with a report.

    Parameters
    ----------
    patients
        Ids of simulated patients who have readings; the clinician looks after the first, and not after the second.
    """
    import httpx

    shown = Shown()
    if len(patients) < 2:
        return shown
    mine, other = patients[:2]
    try:
        accounts = _accounts(settings, mine)
        with httpx.Client(base_url=f"http://{settings.api.host}:{settings.api.port}", timeout=20) as client:
            _act(shown, _Person(client, *accounts[0]), _Person(client, *accounts[1]), mine, other)
    except (httpx.HTTPError, KeyError, ValueError) as error:
        shown.faults.append(f"the API: {type(error).__name__}: {error}")
    return shown


def _accounts(settings: Settings, patient: str) -> list[tuple[str, str, str]]:
    """(name, e-mail, password) of a patient and of the clinician who looks after them."""
    from vitalgate.pki import keyring
    from vitalgate.storage import records_accounts, records_write
    from vitalgate.storage.records_database import RecordsDatabase

    run = secrets.token_hex(4)
    clinician = f"demo-{run}"
    people = [("patient", patient, None), ("clinician", None, clinician)]
    made = []
    with RecordsDatabase(settings.database, keyring.read(settings.security.keys_file), most=2) as database:
        for role, as_patient, as_clinician in people:
            email, password = f"{role}-{run}@example.org", secrets.token_urlsafe(18)
            with database.service("service:demo") as tx:
                code = records_accounts.invite(tx, email, role, patient=as_patient, clinician=as_clinician)
            records_accounts.sign_up(database, email, password, f"Demo {role}", role, invitation=code)
            made.append((role, email, password))
        with database.service("service:demo") as tx:
            records_write.create(tx, "care_team", {"patient": patient, "clinician": clinician, "role": "attending"})
    return made


class _Person:
    def __init__(self, client: httpx.Client, name: str, email: str, password: str) -> None:
        self._client = client
        self.name = name
        tokens = self._ask("POST", "/v1/auth/log-in", json={"email": email, "password": password})
        self._headers = {"authorization": f"Bearer {tokens['accessToken']}"}

    def ask(self, method: str, path: str, **more: Any) -> Any:
        return self._ask(method, path, headers=self._headers, **more)

    def status(self, path: str) -> int:
        return self._client.get(path, headers=self._headers).status_code

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._client.request(method, path, **more)
        answer.raise_for_status()
        return answer.json()


def _act(shown: Shown, patient: _Person, clinician: _Person, mine: str, other: str) -> None:
    latest = patient.ask("GET", f"/v1/patients/{mine}/readings/latest")["data"]
    names = ", ".join(sorted({str(one["metric"]) for one in latest})[:4])
    shown.step(bool(latest), f"The patient logs in and sees {len(latest)} latest readings just streamed ({names}, …)")
    sent = patient.ask("POST", "/v1/messages", json={"patient": mine, "body": "Is this all right?"})
    threads = clinician.ask("GET", "/v1/threads")["data"]
    got = [one for one in threads if one["conversationId"] == sent["conversationId"]]
    shown.step(bool(got) and got[0]["unread"] == 1, "writes to the clinician, who finds 1 unread message")
    seen = clinician.ask("GET", "/v1/my/patients")["data"]
    hidden = clinician.status(f"/v1/patients/{other}")
    shown.step(
        seen == [mine] and hidden == 404,
        f"The clinician sees {len(seen)} patient, the assigned one; another is {hidden}",
    )
    body: dict[str, Any] = {"patient": mine, "reportType": "strip", "conclusion": "Seen in the demo."}
    rates = {one["metric"]: one["dataPayload"].get("value") for one in latest}
    if rate := rates.get("heart_rate") or rates.get("pulse_rate"):
        body["resultData"] = {"rate": rate}
    report = clinician.ask("POST", "/v1/ecg-reports", json=body)
    for verb in ("finalise", "publish"):
        clinician.ask("POST", f"/v1/ecg-reports/{report['id']}/{verb}", json={})
    told = _notified(patient, report["id"])
    shown.step(told == "A new ECG report is there", f"signs an ECG report; the patient is notified: “{told}”")


def _notified(patient: _Person, report: str) -> str:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        for one in patient.ask("GET", "/v1/notifications")["data"]:
            if one["recordId"] == report:
                return str(one["title"])
        time.sleep(0.1)
    return ""
