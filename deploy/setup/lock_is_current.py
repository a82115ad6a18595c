"""Does requirements.lock satisfy pyproject.toml? Without the network, so that a newer version elsewhere fails nothing.

Every requirement of the package, of its extras and of the dev group must be pinned at a version that it allows, with
hashes and without an address.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def problems(pyproject: str, lock: str) -> list[str]:
    """What is wrong, a line each."""
    project = tomllib.loads(pyproject)
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    wanted += project["dependency-groups"]["dev"]
    found: dict[str, list[Version]] = {}
    wrong = []
    for block in re.split(r"\n(?=\S)", lock):
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block)
        if match:
            found.setdefault(canonicalize_name(match[1]), []).append(Version(match[2]))
            if "--hash=sha256:" not in block:
                wrong.append(f"{match[1]} has no hash")
        elif block and not block.startswith("#"):
            wrong.append(f"not a pinned requirement: {block.splitlines()[0]}")
    if "://" in lock:
        wrong.append("an address is in the lock")
    own = canonicalize_name(project["project"]["name"])
    for text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == own:
            continue
        if name not in found:
            wrong.append(f"{text} of pyproject.toml is not in the lock")
        elif not any(requirement.specifier.contains(version, prereleases=True) for version in found[name]):
            wrong.append(f"{text} of pyproject.toml is not met by {', '.join(map(str, found[name]))} of the lock")
    return wrong


def main() -> int:
    """Check and print."""
    wrong = problems((ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text())
    for line in wrong:
        print(f"requirements.lock: {line}")
    print("requirements.lock is not up to date; type: make lock" if wrong else "requirements.lock is up to date")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
