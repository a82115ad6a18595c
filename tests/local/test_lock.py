"""The check of the lock: it passes on this repository, and it would notice."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("lock_is_current", ROOT / "deploy" / "setup" / "lock_is_current.py")
assert SPEC
assert SPEC.loader
lock_is_current = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lock_is_current)

PROJECT = """
[build-system]
requires = []
[project]
name = "own"
dependencies = ["aa>=2"]
optional-dependencies = {all = ["own[x]"], x = ["B.b"]}
[dependency-groups]
dev = []
"""
LOCK = "# made\naa==2.1 \\\n    --hash=sha256:1\nb-b==1 ; sys_platform == 'linux' \\\n    --hash=sha256:2\n"


def test_this_repository_is_up_to_date() -> None:
    project, lock = (ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text()
    assert lock_is_current.problems(project, lock) == []


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        (LOCK, None),
        (LOCK.replace("2.1", "1.9"), "aa>=2 of pyproject.toml is not met by 1.9 of the lock"),
        (LOCK.replace("b-b==1 ;", "c==1 ;"), "B.b of pyproject.toml is not in the lock"),
        (LOCK.replace("    --hash=sha256:1\n", ""), "aa has no hash"),
        (LOCK + "d @ https://example.org/d.whl\n", "an address is in the lock"),
    ],
)
def test_it_notices(lock: str, problem: str | None) -> None:
    found = lock_is_current.problems(PROJECT, lock)
    assert (found == []) if problem is None else (problem in found)
