"""Make the virtual environment hold exactly what requirements.lock names, by hash, and this checkout.

Run by `make setup` with any Python 3.11 or later; uses the standard library only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"


def pinned(name: str) -> str:
    """The lock's lines for one package."""
    lines: list[str] = []
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if lines and not line.startswith(" "):
            break
        if lines or line.startswith(f"{name}=="):
            lines.append(line)
    return "\n".join(lines) + "\n"


def run(*command: str | Path) -> int:
    """Run a command in the checkout."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode


def main() -> int:
    """Create, install, and say what failed and what to do."""
    began = time.monotonic()
    folder = (ROOT / sys.argv[1]).absolute()
    python = folder / "bin" / "python"
    if not python.is_file():
        print(f"Making {folder.name} with Python {sys.version.split()[0]} …", flush=True)
        if run(sys.executable, "-m", "venv", folder):
            print("Python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv")
            return 1
    print("Installing what requirements.lock names …", flush=True)
    # uv installs in seconds; it comes from the lock itself, and pip does the same where uv cannot reach the index.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
        only_uv.write(pinned("uv"))
        only_uv.flush()
        run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", only_uv.name)
    uv = [folder / "bin" / "uv", "pip", "install", "--quiet", "--python", python, "--native-tls"]
    pip = [python, "-m", "pip", "install", "--quiet"]
    locked = ["--require-hashes", "--no-deps", "-r", LOCK]
    if run(*uv, *locked) and run(*pip, *locked):
        print("The packages of requirements.lock could not be installed; the message above says why.")
        return 1
    # hatchling, which builds the checkout, is in the lock: nothing unpinned is fetched.
    own = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    if run(*uv, *own) and run(*pip, *own):
        print("Vitalgate itself could not be installed; the message above says why.")
        return 1
    print(f"The environment is ready ({time.monotonic() - began:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
