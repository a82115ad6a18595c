"""The supervisor: one process a stack, parent of everything that the stack runs.

It is started by `vitalgate.local.stack` with a request (one JSON line) on standard input, reports progress as JSON
lines on standard output, and then answers on its control socket. When the starter's end of standard input closes and
the stack was not asked to stay, it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import logging
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitalgate.config.kafka_rights import ADMIN
from vitalgate.config.loading import Loaded, SettingsError, env_name, load
from vitalgate.local import logs, postgres, processes, roles
from vitalgate.local.child import Child, Gate, Spec
from vitalgate.local.control import Control, answers
from vitalgate.local.errors import PartError, StackError
from vitalgate.local.layout import Layout, State, write_stack_file
from vitalgate.local.migrate import migrate
from vitalgate.local.plan import Part, choose, own_processes
from vitalgate.local.ports import Ports
from vitalgate.local.rights import apply_rights
from vitalgate.local.status import document
from vitalgate.local.tls import LocalTls
from vitalgate.local.topics import create_topics

log = logging.getLogger("vitalgate.local.supervisor")
_LOCK_WAIT_S = 15.0
_SIFT_EVERY_S = 0.5


@dataclass(frozen=True)
class Request:
    """What the starter asks for."""

    data: str
    flags: dict[str, str] = field(default_factory=dict)
    config: str | None = None
    only: list[str] | None = None
    detach: bool = False


class Supervisor:
    """Starts, watches and stops one stack."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.layout = Layout.at(request.data)
        self.state = State(self.layout)
        self.children: dict[str, Child] = {}
        self.loaded: Loaded | None = None
        self._tls: LocalTls | None = None
        self.stopping = asyncio.Event()
        self.ready = False
        self._lock_fd: int | None = None
        self._own: list[str] = []
        self._parts: dict[str, list[str]] = {}

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Start everything, serve until asked to stop, stop everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        control = Control(self.layout.control, self)
        background: list[asyncio.Task[Any]] = []
        code = 0
        try:
            await self._lock()
            await control.open()
            background = [loop.create_task(self._rotate())]
            if not self.request.detach:
                loop.add_reader(0, self._hear_starter)
            starting = loop.create_task(self._start())
            stop = loop.create_task(self.stopping.wait())
            await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
            else:
                starting.result()
                self.ready = True
                report(event="ready")
                log.info("stack ready")
            await stop
        except (StackError, SettingsError) as error:
            report(event="failed", error=str(error), part=isinstance(error, PartError))
            log.error("%s", error)
            code = 1
        except Exception as error:
            report(event="failed", error=f"{type(error).__name__}: {error}; see {self.layout.log('supervisor')}")
            log.exception("unexpected")
            code = 1
        finally:
            for task in background:
                task.cancel()
            await self._stop_all()
            await control.close()
            if self._lock_fd is not None and code == 0:
                self.layout.stack_file.unlink(missing_ok=True)
            log.info("stack stopped")
        return code

    async def _lock(self) -> None:
        """Hold the data directory; children inherit the lock, so it is free only when the last of them is gone."""
        self._lock_fd = os.open(self.layout.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                running = await answers(self.layout.control)
                if running or time.monotonic() > until:
                    os.close(self._lock_fd)
                    self._lock_fd = None
                    what = "a stack is already running" if running else "processes of an earlier stack still run"
                    raise StackError(
                        f"{what} in {self.layout.data}; stop it with `vitalgate down`, or give another --data"
                    ) from error
                await asyncio.sleep(0.1)
            else:
                return

    async def _start(self) -> None:
        self.layout.stack_file.unlink(missing_ok=True)  # addresses of an earlier run are nobody's wish
        config = Path(self.request.config) if self.request.config else None
        wished = load(config=config, flags=self.request.flags, data=str(self.layout.data))
        ports = Ports(self.state)
        parts = choose(wished, self.request.only, self.layout, self.state, ports)
        await asyncio.to_thread(postgres.sweep)
        if wished.settings.local.tls:
            self._tls = LocalTls(self.layout, wished.settings.security)
            await asyncio.to_thread(self._tls.prepare)
        prepared = [asyncio.create_task(self._prepare(part)) for part in parts]
        # Ports and secrets are known once all parts are prepared; each starts as soon as it is.
        try:
            await asyncio.gather(*prepared)
        except BaseException:
            for task in prepared:
                task.cancel()
            raise
        addresses = {name: value for part in parts for name, value in part.addresses().items()}
        addresses["audit.signing_key_file"] = str(self.layout.signing_key())
        addresses["security.keys_file"] = str(self.layout.key_ring())
        if self.request.only is None or "api" in self.request.only:
            addresses["api.port"] = processes.api_port(ports)
        addresses["audit.anchor_file"] = str(self.layout.data / "audit-anchors.jsonl")
        write_stack_file(self.layout, addresses)
        self.loaded = load(config=config, flags=self.request.flags, data=str(self.layout.data))
        timeout = self.loaded.settings.local.ready_timeout_s
        try:
            async with asyncio.TaskGroup() as group:
                waits = {
                    part.name: [group.create_task(self._until_ready(name, timeout)) for name in self._parts[part.name]]
                    for part in parts
                }
                group.create_task(self._start_own(waits, ports, timeout))
        except BaseExceptionGroup as failed:
            raise _first(failed) from failed

    async def _prepare(self, part: Part) -> None:
        began = time.monotonic()
        specs = await asyncio.to_thread(part.prepare)
        log.info("%s prepared in %.2f s", part.name, time.monotonic() - began)
        self._parts[part.name] = [spec.name for spec in specs]
        for spec in specs:
            self._add(spec).start()

    def _add(self, spec: Spec) -> Child:
        child = Child(spec, self.layout.log(spec.name), lock_fd=self._lock_fd)
        self.children[spec.name] = child
        return child

    async def _until_ready(self, name: str, timeout: float) -> None:
        child = self.children[name]
        if not await child.wait_ready(timeout):
            raise StackError(self._trouble(child, timeout))
        report(event="process", name=name, seconds=round(child.took_s, 2))
        log.info("%s ready after %.2f s", name, child.took_s)

    def _trouble(self, child: Child, timeout: float) -> str:
        why = child.problem or "it does not answer"
        if child.restarts:
            why = f"it ended {child.restarts} times, last with exit status {child.last_exit}"
        text = f"{child.spec.name} was not ready within {timeout:g} s (local.ready_timeout_s): {why}"
        if child.state == "failed":
            text = f"{child.spec.name} could not be started: {why}"
        lines = logs.tail(child.log)
        return f"{text}\nThe last lines of {child.log}:\n{lines}" if lines else text

    async def _start_own(self, waits: dict[str, list[asyncio.Task[None]]], ports: Ports, timeout: float) -> None:
        """Start our processes with the parts, and let them go on once topics and tables are there."""
        assert self.loaded is not None
        wanted = own_processes(self.request.only, self.loaded.settings.local.copies)
        only = self.request.only
        if not wanted and only is not None:
            return
        env = self._environment()
        own = self._own_environments()
        gate = Gate()
        started = []
        for process in wanted:
            self._own.append(process.name)
            child = self._add(processes.spec(process, ports, {**env, **own.get(process.arguments[-1], {})}))
            gate.hold(child)
            child.start()
            started.append(process.name)
        steps = []
        if only is None or "kafka" in only:
            steps.append(self._topics(waits.get("kafka", [])))
        if only is None or "postgres" in only:
            steps.append(migrate(waits.get("postgres", []), env, self.layout.log("migrate")))
        await asyncio.gather(*steps, *(task for tasks in waits.values() for task in tasks))
        gate.open()
        await asyncio.gather(*(self._until_ready(name, timeout) for name in started))

    def _environment(self) -> dict[str, str]:
        """Settings for our processes: flags become environment, since a command line is there for all to read."""
        env = {env_name(name): value for name, value in self.request.flags.items()}
        env["VITALGATE_STACK_DATA"] = str(self.layout.data)
        if self.request.config:
            env["VITALGATE_CONFIG"] = str(Path(self.request.config).absolute())
        return env

    def _own_environments(self) -> dict[str, dict[str, str]]:
        """By the name of each process, who it is in Kafka and in the database."""
        assert self.loaded is not None
        found: dict[str, dict[str, str]] = {}
        if self._tls is not None and "kafka" in self._parts:
            found |= self._tls.environments()
        if "postgres" in self._parts:
            for name, more in roles.environments(self.layout, self.loaded.settings.database.db_schema).items():
                found[name] = {**found.get(name, {}), **more}
        return found

    async def _topics(self, after: list[asyncio.Task[None]]) -> None:
        assert self.loaded is not None
        # The library is imported while Kafka starts.
        await asyncio.gather(asyncio.to_thread(importlib.import_module, "kafka.admin"), *after)
        began = time.monotonic()
        kafka = self.loaded.settings.kafka
        if self._tls is not None and "kafka" in self._parts:
            kafka = self._tls.acting(kafka, ADMIN)
            await asyncio.to_thread(apply_rights, kafka)
        created = await asyncio.to_thread(create_topics, kafka)
        log.info("%d topics created in %.2f s", len(created), time.monotonic() - began)

    async def _stop_all(self) -> None:
        own = [self.children[name] for name in self._own]
        parts = [child for name, child in self.children.items() if name not in self._own]
        # The gateway first, so that nothing new comes in while the workers finish what they have.
        for group in ([c for c in own if c.spec.name == "gateway"], own, parts):
            await asyncio.gather(*(child.stop() for child in group))

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(_SIFT_EVERY_S)
            for child in self.children.values():
                if child.sieve:
                    child.sieve.sift()
            limit = (self.loaded.settings.local.log_max_mb if self.loaded else 20) * 1_048_576
            for path in self.layout.logs.glob("*.log"):
                try:
                    if logs.rotate(path, limit):
                        log.info("%s rotated", path.name)
                except OSError as error:
                    log.warning("%s cannot be rotated: %s", path.name, error.strerror)

    def _hear_starter(self) -> None:
        """Stop when the process that started us is gone: its end of our standard input closes."""
        if not os.read(0, 4096):
            log.info("the starter is gone or has let go")
            asyncio.get_running_loop().remove_reader(0)
            self.stopping.set()

    # --- control ----------------------------------------------------------------------------------------------------

    async def command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out one control command.

        Raises
        ------
        StackError
            For an unknown command or process.
        """
        if name == "status":
            facts = {"data": str(self.layout.data), "ready": self.ready, "pid": os.getpid()}
            settings = self.loaded.settings if self.loaded else None
            told = document(
                settings, self.request.only, self.children, self._own, with_figures=bool(arguments.get("figures"))
            )
            return {**facts, **await told}
        if name == "stop":
            self.stopping.set()
            return {"pid": os.getpid()}
        child = self.children.get(arguments.get("name", ""))
        if child is None:
            raise StackError(f"no process {arguments.get('name')!r}; there are {', '.join(self.children) or 'none'}")
        if name == "stop_process":
            await child.stop()
        elif name == "start_process":
            child.start()
            if arguments.get("wait") and not await child.wait_ready(float(arguments["wait"])):
                raise StackError(self._trouble(child, float(arguments["wait"])))
        elif name == "kill_process":
            child.signal(int(arguments.get("signal", signal.SIGKILL)))
        else:
            raise StackError(f"unknown command {name!r}")
        return {"name": child.spec.name, "pid": child.pid, "state": child.state}


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that made a task group end; the others are its consequences."""
    while isinstance(group.exceptions[0], BaseExceptionGroup):
        group = group.exceptions[0]
    return group.exceptions[0]


def report(**event: object) -> None:
    """Tell the starter; it may be gone."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(event).encode() + b"\n")


def main() -> int:
    """Read the request and run."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)  # one at a time: what follows the line is the life line
        if not byte:
            return 1
        line += byte
    request = Request(**json.loads(line))
    layout = Layout.at(request.data)
    try:
        layout.create()
    except StackError as error:
        report(event="failed", error=str(error))
        return 1
    descriptor = os.open(layout.log("supervisor"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 2)
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)
    log.info("request: %s", {**asdict(request), "flags": sorted(request.flags)})
    return asyncio.run(Supervisor(request).run())


if __name__ == "__main__":
    sys.exit(main())
