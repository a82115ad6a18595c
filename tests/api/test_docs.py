"""Every curl example of docs/api.md works as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.api.conftest import Api

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_works(api: Api, number: int) -> None:
    env = {**os.environ, "API": api.url, "TOKEN": api.people["anna"].tokens["accessToken"]}
    run = subprocess.run(
        ["bash", "-c", EXAMPLES[number]], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    if "/v1/live?" in EXAMPLES[number]:
        assert "event: ready" in run.stdout
        return
    answer = json.loads(run.stdout)
    assert not str(answer.get("type", "")).startswith("urn:vitalgate:problem"), answer
    assert "errors" not in answer
