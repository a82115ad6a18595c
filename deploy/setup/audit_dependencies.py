"""Does a known vulnerability concern what requirements.lock pins? pip-audit asks; without a network nothing is said.

Exit status 1 when there is one. A service that cannot be reached is told, and is no failure: checks must pass on a
train.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What pip-audit and requests say when nobody answers; anything else that goes wrong is a failure.
AWAY = re.compile(
    r"connection|connect |resol|timed? ?out|unreachable|proxy|ServiceError|HTTPError|SSLError|Forbidden|Temporary fail",
    re.IGNORECASE,
)
#: Vulnerabilities that do not concern us, with the reason and until when that holds.
ACCEPTED: dict[str, str] = {}
PATIENCE_S = 240
SERVICE = "https://pypi.org/pypi/pip-audit/2.7.3/json"
"""Whom pip-audit asks, about one release: an index that mirrors packages alone does not answer."""


def command(lock: Path) -> list[str]:
    """pip-audit on exactly what the lock pins: nothing is resolved or installed."""
    accepted = [part for name in ACCEPTED for part in ("--ignore-vuln", name)]
    return [
        sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip", "--require-hashes",
        "--format", "json", "--progress-spinner", "off", "--timeout", "5", *accepted,
    ]  # fmt: skip


def judge(output: str, errors: str) -> tuple[int, str]:
    """Exit status and text, from what pip-audit printed."""
    try:
        document = json.loads(output)
    except ValueError:
        last = (errors.strip().splitlines() or ["it said nothing"])[-1][:300]
        if AWAY.search(errors):
            return 0, f"not asked: no vulnerability service is reachable ({last})"
        return 1, f"pip-audit failed: {last}"
    found = [
        f"{package['name']} {package.get('version', '?')}: {each['id']}"
        + (f", mended in {', '.join(each['fix_versions'])}" if each.get("fix_versions") else "")
        for package in document["dependencies"]
        for each in package.get("vulns", ())
    ]
    if found:
        return 1, "\n".join(found)
    return 0, f"{len(document['dependencies'])} packages, no known vulnerability"


def absent(service: str = SERVICE) -> str:
    """Why the service cannot be asked, found out by one question; empty when it answers."""
    try:
        with urllib.request.urlopen(service, timeout=5) as answer:  # noqa: S310  an address of ours
            return "" if "vulnerabilities" in json.load(answer) else "it does not tell vulnerabilities"
    except (OSError, ValueError) as error:
        return str(error)


def main() -> int:
    """Ask, and say what came of it."""
    if why := absent():
        print(f"not asked: no vulnerability service is reachable ({why})")
        return 0
    try:
        done = subprocess.run(
            command(ROOT / "requirements.lock"), capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        print(f"not asked: the vulnerability service did not answer within {PATIENCE_S} s")
        return 0
    status, text = judge(done.stdout, done.stderr)
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
