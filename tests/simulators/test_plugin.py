"""The pytest plugin: there for everybody, costs nothing until used, and its documentation is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vitalgate.testing.deployment import scenario_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from vitalgate.simulators.physiology import Person

DOCS = Path(__file__).parents[2] / "docs" / "testing.md"


def test_loading_it_imports_nothing_of_ours_but_itself() -> None:
    code = (
        "import pytest, sys, vitalgate.testing;"
        "print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'faust', 'psycopg', 'pydantic', 'paho')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_every_fixture_is_documented() -> None:
    import vitalgate.testing

    for name in vitalgate.testing.__all__:
        if name.startswith("vitalgate_"):
            assert f"`{name}`" in DOCS.read_text()


def test_the_examples_are_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "docs/testing.md", "exec")


def test_a_person_to_read_values_off(vitalgate_person: Callable[..., Person]) -> None:
    person = vitalgate_person(seed=7, heart_rate=[(0, 72), (60, 110)])
    assert person.one("heart_rate", person.origin + 30) == pytest.approx(91, abs=0.5)


def test_a_mapping_becomes_a_scenario_file(tmp_path: Path) -> None:
    from vitalgate.simulators.scenario import load

    path = scenario_file(
        {
            "name": "m", "title": 'A "title"', "seconds": 3,
            "patients": [{"name": "a", "devices": ["scale", {"kind": "manual", "numbered": False}]}],
        },
        tmp_path,
    )  # fmt: skip
    scenario = load(path)
    assert scenario.title == 'A "title"'
    assert [device.numbered for device in scenario.patients[0].devices] == [True, False]
