"""One supervised process: started, watched, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitalgate.local.guard import guarded
from vitalgate.local.logs import Sieve
from vitalgate.local.probes import Probe, ProbeError

ChildState = Literal["stopped", "starting", "ready", "backoff", "failed"]

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
#: A process that lived this long starts its back-off over.
HEALTHY_S = 30.0
_PROBE_EVERY_S = 0.05
_PROBE_TIMEOUT_S = 5.0
#: After this many crashes in a row nobody who waits for it to become ready need wait longer.
CRASHES_MOST = 5
#: Exit status of our commands for unusable settings: trying again would not help.
EXIT_USAGE = 2
_PR_SET_PDEATHSIG = 1
#: Whether the kernel can be asked to signal a child when its parent dies; a variable, so that a test can say no.
parent_death_signal: bool = platform.system() == "Linux"


@dataclass(frozen=True)
class Identity:
    """User and group that a child runs as, when the supervisor is root and the child must not be."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True)
class Spec:
    """How to run one process.

    ``death_signal`` is what it gets when the supervisor dies without having stopped it. Where ``keep_line`` is given,
    only lines it says yes to reach the log.
    """

    name: str
    argv: tuple[str, ...]
    probe: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    identity: Identity | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 10.0
    keep_line: Callable[[bytes], bool] | None = None


def die_with_parent(death_signal: int) -> Callable[[], None]:
    """A function to run between fork and exec: the kernel will signal this child when its parent dies.

    The kernel's "parent" is the thread that forked, so children are forked in the supervisor's main thread. It must
    run after a change of user, which clears the request (`subprocess` does so).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def hook() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # died between fork and prctl
            os._exit(1)

    return hook


class Child:
    """Keeps one process running until told to stop."""

    def __init__(self, spec: Spec, log: Path, *, lock_fd: int | None = None) -> None:
        self.spec = spec
        self.log = log
        self.sieve = Sieve(log, spec.keep_line) if spec.keep_line else None
        #: The file that the process writes to.
        self.output = self.sieve.raw if self.sieve else log
        #: When the process was started last, and how long it took to become ready.
        self.started = 0.0
        self.took_s = 0.0
        self.state: ChildState = "stopped"
        self.pid: int | None = None
        self.restarts = 0
        self.last_exit: int | None = None
        self.problem = ""
        self.changed = asyncio.Event()
        #: Where the process waits after its start; None once it may go on.
        self.gate: Gate | None = None
        self._lock_fd = lock_fd
        self._wanted = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the process and keep it running; does nothing when it is running."""
        if self._task is None or self._task.done():
            self._wanted = True
            self._wake.clear()
            self._set("starting")
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self.spec.name)

    async def stop(self) -> None:
        """Stop signal, then SIGKILL after the grace time; returns when the process is gone."""
        self._wanted = False
        self._wake.set()
        if self._task is None or self._task.done():
            self._set("stopped")
            return
        self.signal(self.spec.stop_signal)
        done, _ = await asyncio.wait({self._task}, timeout=self.spec.grace_s)
        if not done:
            self.signal(signal.SIGKILL)
            await asyncio.wait({self._task})

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the process is ready; False when it failed, keeps crashing, or the time is over."""
        most = self.restarts + CRASHES_MOST
        try:
            async with asyncio.timeout(timeout_s):
                while self.state not in ("ready", "failed") and self.restarts < most:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return False
        return self.state == "ready"

    def _is_wanted(self) -> bool:
        return self._wanted  # asked anew after each wait

    def _set(self, state: ChildState) -> None:
        self.state = state
        self.changed.set()

    async def _run(self) -> None:
        delay = BACKOFF_FIRST_S
        while self._wanted:
            self.started = time.monotonic()
            try:
                process = await self._spawn()
            except OSError as error:
                self.problem = f"cannot start {self.spec.argv[0]}: {error.strerror}"
                self._set("failed")
                return
            self.pid = process.pid
            if not self._is_wanted():  # stop() came while the process was being made and had no pid to signal
                self.signal(self.spec.stop_signal)
            probing = asyncio.create_task(self._probe())
            self.last_exit = await process.wait()
            probing.cancel()
            self.pid = None
            if not self._is_wanted():
                break
            if self.last_exit == EXIT_USAGE and self.spec.identity is None:
                self.problem = "it exited with status 2: its command or settings are unusable"
                self._set("failed")
                return
            self.restarts += 1
            if time.monotonic() - self.started >= HEALTHY_S:
                delay = BACKOFF_FIRST_S
            self._set("backoff")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay)
            delay = min(delay * 2, BACKOFF_MAX_S)
            if self._is_wanted():
                self._set("starting")
        if self.sieve:
            self.sieve.sift()
        self._set("stopped")

    async def _spawn(self) -> asyncio.subprocess.Process:
        spec = self.spec
        argv = spec.argv
        keep: tuple[int, ...] = () if self._lock_fd is None else (self._lock_fd,)
        env = {**os.environ, **spec.env}
        if self.gate is not None:
            keep = (*keep, self.gate.descriptor)
            env |= self.gate.environment
        self.log.touch(mode=0o600)
        identity = spec.identity
        hook = None
        with contextlib.ExitStack() as done, self.output.open("ab") as log:
            if parent_death_signal:
                hook = die_with_parent(spec.death_signal)
            else:  # no such request to the kernel: a small guard holds a life line for the child
                argv, life_line = guarded(argv, spec.death_signal)
                keep = (*keep, life_line)
                done.callback(os.close, life_line)
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=spec.cwd,
                start_new_session=True,
                preexec_fn=hook,
                pass_fds=keep,
                user=identity.uid if identity else None,
                group=identity.gid if identity else None,
                extra_groups=[] if identity else None,
            )

    async def _probe(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    await self.spec.probe()
            except (OSError, ProbeError, TimeoutError) as error:
                self.problem = str(error) or type(error).__name__
                await asyncio.sleep(_PROBE_EVERY_S)
            else:
                self.problem = ""
                self.took_s = time.monotonic() - self.started
                self._set("ready")
                return


class Gate:
    """Holds processes that have started until what they rely on is there: the end of a pipe, which opening closes."""

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe()
        self._held: list[Child] = []

    @property
    def environment(self) -> dict[str, str]:
        """Tells a process where to wait."""
        return {"VITALGATE_START_GATE": str(self.descriptor)}

    def hold(self, child: Child) -> None:
        """Let a child, and all that it becomes until the gate opens, wait."""
        child.gate = self
        self._held.append(child)

    def open(self) -> None:
        """Let all go on, now and when they are started again."""
        for child in self._held:
            child.gate = None
        os.close(self._write_end)
        os.close(self.descriptor)
