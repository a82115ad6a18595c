"""Install the few system packages that are missing where that is allowed, else say what to type.

Run by `make setup`; nothing happens when all is there. Status 1 only for what the stack cannot do without.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

#: Command looked for, Debian's package, Homebrew's formula, whether the stack needs it (the rest is for tests).
WANTED = (
    ("mosquitto", "mosquitto", "mosquitto", True),
    ("mosquitto_pub", "mosquitto-clients", "mosquitto", False),
    ("kcat", "kcat", "kcat", False),
    ("rabbitmq-server", "rabbitmq-server", "rabbitmq", False),
)


def missing() -> list[tuple[str, str, str, bool]]:
    """What is not on this machine."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"])
    return [row for row in WANTED if not shutil.which(row[0], path=path)]


def privilege() -> list[str] | None:
    """What to put before apt-get: nothing for root, sudo where it asks for no password; None when neither."""
    if os.getuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None


def install(packages: list[str]) -> None:
    """Install Debian packages; a failure shows in what is still missing."""
    before = privilege()
    if before is None or not shutil.which("apt-get"):
        return
    print(f"Installing {', '.join(packages)} …", flush=True)
    # Brokers are started by `vitalgate up`; Debian's own services must not run beside them, or take their ports.
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    policy = "/usr/sbin/policy-rc.d"
    guard = not os.path.exists(policy)
    try:
        if guard:
            refuse = f"printf '#!/bin/sh\\nexit 101\\n' > {policy} && chmod 755 {policy}"
            subprocess.run([*before, "sh", "-c", refuse], check=False)
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(
                [*before, *environment, "apt-get", *arguments],
                stdout=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            if done.returncode:
                print(f"apt-get {arguments[0]} failed with status {done.returncode}")
    finally:
        if guard:
            subprocess.run([*before, "rm", "-f", policy], check=False)


def main() -> int:
    """Install what is missing and report what still is."""
    if rows := missing():
        install(sorted({row[1] for row in rows}))
    rows = missing()
    if rows:
        names = ", ".join(row[0] for row in rows)
        if platform.system() == "Darwin":
            remedy = f"brew install {' '.join(sorted({row[2] for row in rows}))}"
        else:
            remedy = f"sudo apt-get update && sudo apt-get install {' '.join(sorted({row[1] for row in rows}))}"
        print(f"Not on this machine: {names}. Type:\n\n    {remedy}\n")
        print("(or set mqtt.host to a broker of your own)" if any(row[3] for row in rows) else "Some tests will skip.")
    return 1 if any(row[3] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
