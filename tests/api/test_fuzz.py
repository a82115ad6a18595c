"""Schemathesis on the OpenAPI document and on GraphQL: whatever is sent, no 500, no trace of the inside, no leak."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import from_schema

from tests.api.conftest import Api
from vitalgate.api import contract, graphql_schema
from vitalgate.config.settings import ApiSettings

#: Examples an operation; more for a longer run.
EXAMPLES = int(os.environ.get("TEST_API_EXAMPLES", "1"))
SCHEMA = schemathesis.openapi.from_dict(contract.document())
#: They end what the fuzzer is logged in with, or never end.
LEFT = ("log_out", "log_out_everywhere", "end_session", "live", "live_notifications", "change_password")
INSIDE = ("Traceback", "psycopg", "SELECT ", "vitalgate.storage", "site-packages")
FUZZED = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate], database=None,
)  # fmt: skip


def _operations() -> list[Any]:
    found = [operation.ok() for operation in SCHEMA.get_all_operations()]
    return [one for one in found if one.definition.raw["operationId"] not in LEFT]


@pytest.mark.parametrize("operation", _operations(), ids=lambda one: one.definition.raw["operationId"])
def test_no_operation_fails_or_leaks(api: Api, operation: Any) -> None:
    @FUZZED
    @given(case=operation.as_strategy(), who=st.sampled_from(["anna", "carla", "ada", ""]))
    def run(case: Any, who: str) -> None:
        headers = api.people[who].headers if who else {}
        answer = case.call(base_url=api.url, headers=headers, timeout=30)
        text = answer.text
        assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, text)
        assert not any(word in text for word in INSIDE)
        if answer.status_code >= 400:
            assert "application/problem+json" in answer.headers["content-type"], text
            assert str(answer.status_code) in operation.definition.raw["responses"] or answer.status_code in (405, 406)
        if not who:
            assert "p-anna" not in text or "p-anna" in str(case.path_parameters)

    run()


def test_no_graphql_query_fails_or_leaks(api: Api) -> None:
    sdl = graphql_schema.build(ApiSettings.model_validate({}), lambda: None).as_str()  # type: ignore[arg-type,return-value]  # no live query is begun

    @settings(FUZZED, max_examples=10 * EXAMPLES)
    @given(query=from_schema(sdl, custom_scalars=_scalars()), who=st.sampled_from(["anna", "carla", "ada", ""]))
    def run(query: str, who: str) -> None:
        with api.client(who) as client:
            answer = client.post("/graphql", json={"query": query})
        assert answer.status_code in (200, 400), answer.text
        for error in answer.json().get("errors") or ():
            assert error.get("extensions", {}).get("status", 400) < 500, answer.text
            assert not any(word in error["message"] for word in INSIDE)

    run()


def _scalars() -> dict[str, Any]:
    from hypothesis_graphql import nodes

    return {
        "DateTime": st.just("2026-01-01T00:00:00Z").map(nodes.String),
        "Date": st.just("2026-01-01").map(nodes.String),
        "JSON": st.text(max_size=5).map(nodes.String),
    }
