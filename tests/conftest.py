"""Fixtures on real parts, and a closing summary that says what was skipped and why.

``stack`` is the whole stack; ``mqtt_broker``, ``kafka_bootstrap`` and ``postgres_dsn`` start that part alone, or take
it from the whole stack when that runs already. Each is started at its first use and shared by the session.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from vitalgate.config.loading import Loaded
from vitalgate.config.settings import MqttSettings
from vitalgate.local.errors import PartError
from vitalgate.local.stack import Stack

REPOSITORY = Path(__file__).parents[1]

# Several stacks may start at once, on few cores.
os.environ.setdefault("VITALGATE_LOCAL_READY_TIMEOUT_S", "300")

# No example is timed: a busy machine is no defect. In continuous integration every run tries the same examples, so that
# a change is judged by itself; at a desk each run tries new ones.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


#: Files of these rooms take long: begun first, no process is left alone with one at the end.
LONG = ("torture", "end_to_end", "simulators", "stream", "alerts", "gateway", "brokers", "api")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a file the order stays."""

    def turn(item: pytest.Item) -> int:
        room = item.path.relative_to(REPOSITORY / "tests").parts[0]
        return LONG.index(room) if room in LONG else len(LONG)

    items.sort(key=turn)


class Stacks:
    """The stacks of one test session, by what they run."""

    def __init__(self) -> None:
        # Short paths below a folder that other users may pass: PostgreSQL may run as one of them.
        self.folder = Path(tempfile.mkdtemp(prefix="vitalgate-test-"))
        self.folder.chmod(0o711)
        self.running: dict[str, Stack] = {}

    def get(self, name: str, only: set[str] | None) -> Stack:
        """A stack of these parts, started at first use."""
        if "whole" in self.running:
            return self.running["whole"]
        if name not in self.running:
            stack = Stack(self.folder / name, only=only)
            stack.start()
            self.running[name] = stack
        return self.running[name]

    def stop(self) -> None:
        """Stop all and remove what they stored."""
        keep = os.environ.get("CI") is None and os.environ.get("VITALGATE_KEEP_TEST_DATA")
        for stack in self.running.values():
            stack.stop(remove=not keep)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A test that starts a process's logging in this process leaves the root logger as it found it."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def stacks() -> Iterator[Stacks]:
    """Starter of stacks; for the fixtures below."""
    owner = Stacks()
    try:
        yield owner
    finally:
        owner.stop()


def _start(stacks: Stacks, name: str, only: set[str] | None) -> Stack:
    try:
        return stacks.get(name, only)
    except PartError as error:
        pytest.skip(f"a part is missing on this machine: {error}")


@pytest.fixture(scope="session")
def stack(stacks: Stacks) -> Stack:
    """The whole stack, ready."""
    return _start(stacks, "whole", None)


@pytest.fixture(scope="session")
def stack_settings(stack: Stack) -> Loaded:
    """Settings with the whole stack's addresses."""
    return stack.settings


@pytest.fixture(scope="session")
def mqtt_broker(stacks: Stacks) -> MqttSettings:
    """A broker: host, port, user names and the files of their passwords."""
    return _start(stacks, "mqtt", {"mqtt"}).settings.settings.mqtt


@pytest.fixture(scope="session")
def kafka_bootstrap(stacks: Stacks) -> str:
    """Bootstrap servers of a one-node Kafka without topics."""
    return _start(stacks, "kafka", {"kafka"}).settings.settings.kafka.bootstrap


@pytest.fixture(scope="session")
def postgres_dsn(stacks: Stacks) -> str:
    """Connection string of the owner of a database; migrate into a schema of your own."""
    return _start(stacks, "postgres", {"postgres"}).settings.settings.database.dsn


@pytest.fixture(scope="session")
def ecg_data() -> Path:
    """Folder of public ECG records: ``VITALGATE_ECG_DATA``, or ``../shared/data`` beside the repository."""
    named = os.environ.get("VITALGATE_ECG_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ECG records (VITALGATE_ECG_DATA names their folder; ../shared/data is looked in otherwise)")
    return folder


# --- the closing summary -------------------------------------------------------------------------------------------


def _cause(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").splitlines()[0] if text else "no reason given"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List skipped tests by cause."""
    causes = Counter(_cause(report) for report in terminalreporter.stats.get("skipped", []))
    if causes:
        terminalreporter.section("skipped, by cause", sep="-")
        for cause, count in causes.most_common():
            terminalreporter.write_line(f"{count:4d}  {cause}")
        if os.environ.get("VITALGATE_STRICT") == "1":
            terminalreporter.write_line("VITALGATE_STRICT=1: a skipped test counts as a failure", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With VITALGATE_STRICT=1 any skip makes the session fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("VITALGATE_STRICT") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
