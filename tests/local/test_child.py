"""One supervised process: ready, restarted with a growing pause, stopped gently and then not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from vitalgate.local import child as child_module
from vitalgate.local.child import Child, Spec
from vitalgate.local.probes import ProbeError


async def yes() -> None:
    """A probe that always agrees."""


async def no() -> None:
    """A probe that never agrees."""
    raise ProbeError("not yet")


def python(code: str, name: str = "one", probe: Callable[[], Awaitable[None]] = yes, grace_s: float = 2.0) -> Spec:
    return Spec(name, (sys.executable, "-u", "-c", code), probe, grace_s=grace_s)


async def until(met: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not met():
            await asyncio.sleep(0.01)


def test_a_process_writes_its_log_becomes_ready_and_stops_on_sigterm(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = Child(python("print('hello'); import time; time.sleep(60)"), tmp_path / "one.log")
        one.start()
        assert await one.wait_ready(10)
        pid = one.pid
        await until(lambda: b"hello" in (tmp_path / "one.log").read_bytes())
        await one.stop()
        assert (one.state, one.pid, one.restarts) == ("stopped", None, 0)
        assert pid is not None
        assert not psutil.pid_exists(pid)

    asyncio.run(scenario())


def test_a_crashing_process_is_started_again_after_pauses_that_double(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(child_module, "BACKOFF_MAX_S", 0.2)
    starts = tmp_path / "starts"
    code = f"import time; open({str(starts)!r}, 'a').write(f'{{time.time()}}\\n'); raise SystemExit(7)"

    async def scenario() -> None:
        one = Child(python(code, probe=no), tmp_path / "one.log")
        one.start()
        await until(lambda: one.restarts >= 5)
        assert one.last_exit == 7
        await one.stop()
        assert one.state == "stopped"

    asyncio.run(scenario())
    times = [float(line) for line in starts.read_text().splitlines()]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    # 0.05, 0.1, 0.2, 0.2: each pause is at least its back-off, and the first is not yet the longest.
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.2), strict=False))


def test_the_back_off_starts_over_after_a_healthy_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(child_module, "BACKOFF_MAX_S", 60.0)
    monkeypatch.setattr(child_module, "HEALTHY_S", 0.0)

    async def scenario() -> None:
        one = Child(python("raise SystemExit(1)", probe=no), tmp_path / "one.log")
        one.start()
        # Without starting over the twelfth pause alone would be 20 s.
        await until(lambda: one.restarts >= 12)
        await one.stop()

    asyncio.run(scenario())


def test_unusable_settings_are_not_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = Child(python("raise SystemExit(2)", probe=no), tmp_path / "one.log")
        one.start()
        assert not await one.wait_ready(10)
        assert (one.state, one.restarts) == ("failed", 0)
        await one.stop()

    asyncio.run(scenario())


def test_what_ignores_sigterm_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"

    async def scenario() -> None:
        one = Child(python(code, grace_s=0.3), tmp_path / "one.log")
        one.start()
        await until(lambda: one.log.is_file() and b"deaf" in one.log.read_bytes())
        began = time.monotonic()
        await one.stop()
        assert 0.3 <= time.monotonic() - began < 2
        assert one.last_exit == -signal.SIGKILL

    asyncio.run(scenario())


def test_a_stop_during_the_pause_is_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_FIRST_S", 30.0)

    async def scenario() -> None:
        one = Child(python("raise SystemExit(1)", probe=no), tmp_path / "one.log")
        one.start()
        await until(lambda: one.state == "backoff")
        began = time.monotonic()
        await one.stop()
        assert time.monotonic() - began < 1
        assert one.state == "stopped"

    asyncio.run(scenario())


def test_a_command_that_is_not_there_fails_with_its_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = Child(Spec("one", ("/nonexistent/broker",), no), tmp_path / "one.log")
        one.start()
        assert not await one.wait_ready(5)
        assert one.problem == "cannot start /nonexistent/broker: No such file or directory"

    asyncio.run(scenario())


PARENT = """
import asyncio, sys
from pathlib import Path
from vitalgate.local import child
from vitalgate.local.child import Child, Spec

child.parent_death_signal = sys.argv[2] == "kernel"

async def probe():
    pass

async def main():
    code = "import time; print('up'); time.sleep(60)"
    one = Child(Spec("one", (sys.executable, "-u", "-c", code), probe), Path(sys.argv[1]))
    one.start()
    await one.wait_ready(10)
    print(one.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            "kernel", marks=pytest.mark.skipif(not child_module.parent_death_signal, reason="needs Linux's prctl")
        ),
        "guard",
    ],
)
def test_a_child_dies_with_its_supervisor_however_that_dies(tmp_path: Path, way: str) -> None:
    log = tmp_path / "one.log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log), way], stdout=subprocess.PIPE)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    until_time = time.monotonic() + 10
    while b"up" not in log.read_bytes():
        assert time.monotonic() < until_time
        time.sleep(0.02)
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive


def test_a_held_process_goes_on_when_the_gate_opens_and_is_not_held_when_started_again(tmp_path: Path) -> None:
    from vitalgate.local.child import Gate

    code = (
        "import os; from vitalgate.cli._context import _wait_at_gate; print('held', flush=True); _wait_at_gate()\n"
        "print('through', 'VITALGATE_START_GATE' in os.environ, flush=True); import time; time.sleep(60)"
    )

    async def scenario() -> None:
        gate = Gate()
        one = Child(python(code), tmp_path / "one.log")
        gate.hold(one)
        one.start()
        await until(lambda: b"held" in one.log.read_bytes() if one.log.is_file() else False)
        await asyncio.sleep(0.2)
        assert b"through" not in one.log.read_bytes()
        one.signal(signal.SIGKILL)  # it is held again when it comes back
        await until(lambda: one.log.read_bytes().count(b"held") == 2)
        gate.open()
        await until(lambda: b"through False" in one.log.read_bytes())
        one.signal(signal.SIGKILL)
        await until(lambda: one.log.read_bytes().count(b"through") == 2)
        await one.stop()

    asyncio.run(scenario())
