"""A treatment plan's alert limits: refused when they cannot be; in force with the plan, in its days, and not after."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.api.conftest import Api
from vitalgate.alerts import rules
from vitalgate.alerts.profile import FOREVER, read
from vitalgate.alerts.rules import Book
from vitalgate.api.plan_limits import check
from vitalgate.records.errors import Invalid
from vitalgate.storage.registry import Registry

KINDS = (f"limits-{n}" for n in itertools.count())
GOOD = {"spo2-low": {"limit": 88, "reason": "COPD"}}


def _book(api: Api) -> Book:
    """The rules as alerting has them for anna."""
    with Registry(api.services.settings.database) as registry:
        (anna,) = registry.patients("p-anna")
    return Book(rules.load().rules.values(), read(dict(anna.overrides)))


def _plan(client: httpx.Client, **given: Any) -> httpx.Response:
    return client.post(
        "/v1/treatment-plans", json={"patient": "p-anna", "kind": next(KINDS), "summary": "Limits", **given}
    )


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"no-such-rule": {"limit": 88, "reason": "x"}}, "unknown rule no-such-rule"),
        ({"spo2-low": {"limit": -1, "reason": "x"}}, "never falls to -1"),
        ({"spo2-low": {"limit": 88, "clear": 80, "reason": "x"}}, "spo2-low"),
        ({"spo2-low": {"limit": 88}}, "needs a reason"),
        ({"spo2-low": {"limt": 88, "reason": "x"}}, "is not used"),
        ({"spo2-low": 88}, "is no object"),
        ({"spo2-low": []}, "is no object"),
        ({"spo2-low": {"limit": 88, "to": "2020-01-01T00:00:00Z", "reason": "x"}}, "was over"),
        ({**GOOD, "spo2-low": [GOOD["spo2-low"], {"limit": "low", "reason": "x"}]}, "is not used"),
    ],
)
def test_limits_that_cannot_be_are_refused_with_the_reason(limits: Any, says: str) -> None:
    with pytest.raises(Invalid, match=says) as found:
        check(rules.shipped())("create", {"alert_overrides": limits}, {"alert_overrides": limits})
    assert found.value.fields and found.value.fields[0][0].startswith("alertOverrides.")


def test_limits_are_looked_at_when_they_are_set_alone() -> None:
    looks = check(rules.shipped())
    bad = {"alert_overrides": {"no-such-rule": {"limit": 1, "reason": "x"}}}
    for verb in ("suspend", "complete", "cancel", "change"):
        looks(verb, bad, {})
    with pytest.raises(Invalid):
        looks("activate", bad, {})
    looks("create", {"alert_overrides": GOOD}, {"alert_overrides": GOOD})
    looks("create", {}, {})


def test_a_bad_limit_is_a_problem_over_every_interface(api: Api) -> None:
    bad = {"spo2-low": {"limit": -1, "reason": "x"}}
    with api.client("carla") as carla:
        refused = _plan(carla, alertOverrides=bad)
        assert refused.status_code == 422 and refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["errors"][0]["at"] == "/alertOverrides/spo2-low"
        assert "never falls to -1" in refused.json()["detail"]
        good = _plan(carla, alertOverrides=GOOD)
        assert good.status_code == 201
        path = f"/v1/treatment-plans/{good.json()['id']}"
        assert carla.patch(path, json={"alertOverrides": bad}).status_code == 422
        asked = (
            'mutation { createTreatmentPlan(input: {patient: "p-anna", kind: "limits-x", summary: "x", '
            'alertOverrides: {no_rule: {limit: 1, reason: "x"}}}) { id } }'
        )
        answer = carla.post("/graphql", json={"query": asked}).json()
        assert answer.get("errors") and "unknown rule no_rule" in answer["errors"][0]["message"]


def test_limits_reach_alerting_with_the_plan_and_end_with_it(api: Api) -> None:
    usual = rules.load().rules["spo2-low"]
    with Registry(api.services.settings.database) as registry:
        zone = ZoneInfo(registry.patients("p-anna")[0].zones[-1][1])
    assert zone.key == "Europe/Berlin"  # their profile, made later, named none
    last = datetime.now(zone).date() + timedelta(days=3)
    with api.client("carla") as carla:
        made = _plan(carla, alertOverrides=GOOD, endDate=str(last)).json()
        path = f"/v1/treatment-plans/{made['id']}"
        assert [one.rule for one in _book(api).variants["spo2-low"]] == [usual]
        assert carla.post(f"{path}/activate").status_code == 200
        profile = _book(api).profile
        (own,) = profile.overrides["spo2-low"]
        assert (own.limit, own.author) == (88, f"plan:{made['id']}")
        # Its last day is whole, where the patient is.
        ends = datetime.combine(last + timedelta(days=1), datetime.min.time(), zone)
        assert own.to is not None and datetime.fromisoformat(own.to) == ends and own.from_ is None
        forms = {one.rule: one.windows for one in _book(api).variants["spo2-low"]}
        assert usual in forms and len(forms) == 2
        (changed,) = (rule for rule in forms if rule != usual)
        assert max(end for _, end in forms[changed]) == round(ends.timestamp() * 1e6)
        assert max(end for _, end in forms[usual]) == FOREVER
        assert carla.post(f"{path}/suspend").status_code == 200
        assert [one.rule for one in _book(api).variants["spo2-low"]] == [usual]
        assert carla.post(f"{path}/activate").status_code == 200
        assert carla.post(f"{path}/complete").status_code == 200
        assert [one.rule for one in _book(api).variants["spo2-low"]] == [usual]
        later = _plan(carla, alertOverrides=GOOD, startDate=str(datetime.now(UTC).date() + timedelta(days=5))).json()
        path = f"/v1/treatment-plans/{later['id']}"
        assert carla.post(f"{path}/activate").status_code == 200
        (own,) = _book(api).profile.overrides["spo2-low"]
        assert own.from_ is not None and datetime.fromisoformat(own.from_) > datetime.now(UTC) + timedelta(days=3)
        assert carla.post(f"{path}/cancel", json={"withdrawnReason": "not needed"}).status_code == 200
        assert "spo2-low" not in _book(api).profile.overrides
