"""The system under torture: its parts in one stack, our processes in another, and a fault proxy between any two."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.local import control, processes
from vitalgate.local.errors import StackError
from vitalgate.local.layout import Layout, State
from vitalgate.local.ports import HOST, Ports
from vitalgate.local.stack import Stack
from vitalgate.torture.proxy import Proxy, ProxyThread, Trouble
from vitalgate.torture.shape import PLAIN, Shape
from vitalgate.torture.stepped_clock import SteppedClock

#: Processes of ours, in the order of the data's way.
OURS = tuple(process.name for process in reversed(processes.ALL))
#: A recording that is silent so long is finished; short, for rounds are.
IDLE_S = 5.0
_SMALL_MB = {"postgres": 700, "kafka": 700, "mosquitto": 24}
_PARTS = frozenset({"mqtt", "kafka", "postgres"})


def _addresses(layout: Layout) -> dict[str, str]:
    """How the parts of a stack are reached: all that it wrote down of them."""
    found = tomllib.loads(layout.stack_file.read_text(encoding="utf-8"))
    return {
        f"{section}.{name}": str(value).lower() if isinstance(value, bool) else str(value)
        for section in ("mqtt", "kafka", "database")
        for name, value in found.get(section, {}).items()
    }


class Rig:
    """Two stacks below one folder, with proxies between devices, our processes, and the three servers.

    All that our processes say to one another goes over broker, Kafka and database, so a proxy before each of these,
    which can single out the connections of one process, is a proxy between any two parts.
    """

    def __init__(self, folder: Path, shape: Shape = PLAIN, chance: random.Random | None = None) -> None:
        self.folder = folder
        self.shape = shape
        self.proxies: dict[str, Proxy] = {}
        """By what is behind: `mqtt`, `kafka` and `postgres` for our processes, `devices` for the devices' broker."""
        self._chance = chance or random.Random(0)  # noqa: S311  no secret
        self._thread: ProxyThread | None = None
        self._mounted: list[Path] = []
        self.kills: list[tuple[float, str]] = []
        """(seconds since 1970, process) of every signal that was sent."""
        self.clock = SteppedClock(folder)
        """Of our processes; to be set in a shape with a stepped clock only."""
        self.parts = Stack(folder / "parts")
        self.works = Stack(folder / "works")
        self.settings: Settings = load(env={}, data=str(folder)).settings
        """As the test itself sees the system, past the proxies (but Kafka names its proxy to whoever asks)."""

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self, progress: Callable[[str, float], None] | None = None) -> None:
        """Start all and wait until it is ready.

        Raises
        ------
        StackError
            When a part does not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        ports = Ports(State(Layout.at(self.folder)))
        taken = {name: ports.take(f"proxy-{name}") for name in ("devices", "mqtt", "kafka", "postgres")}
        parts = dict(self.shape.flags)
        parts["kafka.nodes"] = str(self.shape.nodes)
        if self.shape.nodes == 1:
            parts["local.kafka_advertised"] = f"{HOST}:{taken['kafka']}"
        if self.shape.small_disks:
            self._mount()
        self.parts = Stack(self.folder / "parts", parts, only=set(_PARTS))
        self._thread = ProxyThread()
        self.parts.start(progress)
        there = self.parts.settings.settings
        behind = {"devices": there.mqtt.port, "mqtt": there.mqtt.port, "postgres": self._port(there)}
        if self.shape.nodes == 1:
            behind["kafka"] = int(there.kafka.bootstrap.rpartition(":")[2])
        for name, port in behind.items():
            self.proxies[name] = self._proxy(taken[name], port)
        flags = {
            **_addresses(self.parts.layout), "mqtt.host": HOST, "mqtt.port": str(taken["mqtt"]),
            "mqtt.max_queued_bytes": str(there.mqtt.max_queued_bytes),
            "kafka.bootstrap": f"{HOST}:{taken['kafka']}" if self.shape.nodes == 1 else there.kafka.bootstrap,
            "database.dsn": there.database.dsn.replace(f"port={self._port(there)}", f"port={taken['postgres']}"),
            "analysis.idle_s": f"{IDLE_S:g}", "local.ready_timeout_s": "120",
        }  # fmt: skip
        if self.shape.copies:
            flags["local.copies"] = self.shape.copies
        if self.shape.stepped_clock:
            self.clock.build()
        environment = self.clock.environment if self.shape.stepped_clock else {}
        self.works = Stack(self.folder / "works", flags, environment=environment)
        self.works.start(progress)
        same = {name: value for name, value in flags.items() if not name.startswith(("mqtt.", "database.", "local."))}
        self.settings = load(flags=same, env={}, data=str(self.parts.data)).settings

    def stop(self, *, remove: bool = True) -> None:
        """Stop all, and delete what it stored."""
        for stack in (self.works, self.parts):
            stack.stop()
        if self._thread is not None:
            self._thread.close()
            self._thread = None
        if remove:
            for path in self._mounted:
                subprocess.run(["umount", "-l", path], check=False)
            self._mounted.clear()
            for stack in (self.works, self.parts):
                stack.stop(remove=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _proxy(self, port: int, to: int) -> Proxy:
        assert self._thread is not None
        return self._thread.add(port, (HOST, to), random.Random(self._chance.random()))  # noqa: S311

    @staticmethod
    def _port(settings: Settings) -> int:
        return int(next(word for word in settings.database.dsn.split() if word.startswith("port=")).partition("=")[2])

    def _mount(self) -> None:
        """Give each part a small file system, in memory."""
        for name, size in _SMALL_MB.items():
            path = self.folder / "parts" / name
            path.mkdir(parents=True, exist_ok=True)
            options = f"size={size}m,mode=0711"
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise StackError(f"{path} cannot be mounted: {done.stderr.strip()}")
            self._mounted.append(path)
        (self.folder / "parts").chmod(0o711)

    def disk(self, part: str) -> Path:
        """The folder of a part's own file system (small disks only)."""
        return self.folder / "parts" / part

    # --- processes --------------------------------------------------------------------------------------------------

    def _of(self, name: str) -> Path:
        return (
            self.parts.data
            if name.startswith(("kafka", "mosquitto", "rabbitmq", "epmd", "postgres"))
            else self.works.data
        )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal; the supervisor starts the process again when it ends."""
        self.kills.append((time.time(), name))
        control.kill_process(self._of(name), name, number)

    def stop_one(self, name: str) -> None:
        """Stop one process for good."""
        control.stop_process(self._of(name), name)

    def start_one(self, name: str, wait_s: float = 0) -> None:
        """Start it again."""
        control.start_process(self._of(name), name, wait_s)

    def status(self) -> dict[str, dict[str, Any]]:
        """Every process by name: pid, state, restarts; of ours also `ok`, whether it says that it is ready."""
        found: dict[str, dict[str, Any]] = {}
        for stack in (self.parts, self.works):
            document = control.status(stack.data)
            for process in document["processes"]:
                health = document["health"].get(process["name"])
                found[process["name"]] = {**process, "ok": health["ok"] if health else process["state"] == "ready"}
        return found

    def pid(self, name: str) -> int | None:
        """Process id, None while it does not run."""
        pid = self.status()[name]["pid"]
        return None if pid is None else int(pid)

    def kafka_nodes(self) -> list[str]:
        """Names of the Kafka processes."""
        return ["kafka"] if self.shape.nodes == 1 else [f"kafka-{n}" for n in range(1, self.shape.nodes + 1)]

    def wait_ready(self, patience_s: float, names: Iterable[str] | None = None) -> list[str]:
        """Wait until all (or these) are ready; the names of those that are not when patience ran out."""
        give_up = time.monotonic() + patience_s
        while True:
            status = self.status()
            wanted = list(names) if names is not None else list(status)
            late = [name for name in wanted if not (status[name]["state"] == "ready" and status[name]["ok"])]
            if not late or time.monotonic() > give_up:
                return late
            time.sleep(0.2)

    # --- the network ------------------------------------------------------------------------------------------------

    def trouble(self, proxy: str, trouble: Trouble) -> None:
        """Make trouble before `mqtt`, `kafka`, `postgres` or `devices`."""
        self.proxies[proxy].trouble(trouble)

    def calm(self) -> None:
        """No trouble anywhere."""
        for proxy in self.proxies.values():
            proxy.calm()

    @property
    def device_port(self) -> int:
        """Where devices connect."""
        return self.proxies["devices"].port
