"""The dependency audit fails for a vulnerability and for its own faults, and not for want of a network."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "setup" / "audit_dependencies.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(vulns: list[dict[str, object]]) -> str:
    return json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": vulns}, {"name": "b", "version": "2"}]})


def test_a_vulnerability_fails_with_the_version_that_mends_it(audit: ModuleType) -> None:
    status, text = audit.judge(told([{"id": "CVE-1", "fix_versions": ["1.1"]}]), "")
    assert (status, text) == (1, "a 1: CVE-1, mended in 1.1")
    assert audit.judge(told([]), "")[0] == 0


def test_without_a_network_it_says_so_and_passes(audit: ModuleType) -> None:
    for fault in ("requests.exceptions.ConnectionError: …", "Read timed out.", "Temporary failure in name resolution"):
        status, text = audit.judge("", fault)
        assert status == 0
        assert text.startswith("not asked")


def test_an_index_that_tells_nothing_is_not_asked_further(audit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mirror").write_text("{}")
    (tmp_path / "service").write_text('{"vulnerabilities": []}')
    assert audit.absent((tmp_path / "mirror").as_uri())
    assert audit.absent((tmp_path / "none").as_uri())
    assert audit.absent((tmp_path / "service").as_uri()) == ""


def test_any_other_fault_fails(audit: ModuleType) -> None:
    assert audit.judge("", "Traceback: KeyError: 'x'")[0] == 1
    assert audit.judge("", "")[0] == 1


def test_with_the_service_out_of_reach_the_command_itself_passes(audit: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("click==8.1.8 --hash=sha256:" + "0" * 64 + "\n")
    done = subprocess.run(
        audit.command(lock), capture_output=True, text=True, check=False, timeout=60,
        env={"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path),
             "PATH": str(Path(sys.executable).parent)},
    )  # fmt: skip
    status, text = audit.judge(done.stdout, done.stderr)
    assert status == 0, done.stderr
    assert text.startswith("not asked")
