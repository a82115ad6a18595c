"""A process without memory ends, or is as good as before when there is memory again; never half of it goes on.

Found by `vitalgate torture --seed 11 --faults out-of-memory --first 23 --rounds 1`: a worker whose health endpoint
could not start a thread never answered there again.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request

import pytest

_RAISED = {
    "a thread": "t = threading.Thread(target=fail); t.start(); t.join()",
    "nobody": "class A:\n    def __del__(self): fail()\nA()",
}


@pytest.mark.parametrize("where", _RAISED)
@pytest.mark.parametrize(("error", "status"), [("MemoryError", 3), ("ValueError", 0)])
def test_memory_that_is_wanting_where_nobody_catches_it_ends_the_process(where: str, error: str, status: int) -> None:
    text = (
        "import threading\nfrom vitalgate.telemetry.out_of_memory import end_when_out_of_memory\n"
        f"def fail(): raise {error}\nend_when_out_of_memory()\n{_RAISED[where]}"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert ("out of memory" in done.stderr) == (status == 3)
    assert error == "MemoryError" or error in done.stderr, "other errors are told as ever"


_SERVER = """
import resource, sys
from vitalgate.config.settings import HealthSettings
from vitalgate.telemetry.health import Health, serve_health
print(serve_health(Health(), HealthSettings(port=0)).server_address[1], flush=True)
for line in sys.stdin:
    soft = 1 if line == "none\\n" else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))
    print("done", flush=True)
"""


def test_health_is_told_again_when_there_is_memory_again() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/healthz"

        def limit(to: str) -> None:
            assert process.stdin and process.stdout
            process.stdin.write(f"{to}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        try:
            limit("none")
            for _ in range(5):
                try:
                    urllib.request.urlopen(url, timeout=1).close()
                except OSError:
                    continue
            limit("all")
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200
        finally:
            process.kill()
