"""Pytest fixtures for device makers and testers: a real system on this machine, and devices on it.

Loaded by pytest where Vitalgate is installed; imports nothing but pytest until a fixture is used. `docs/testing.md`
shows each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vitalgate.simulators.physiology import Person
    from vitalgate.testing.deployment import Deployment
    from vitalgate.testing.device import TestedDevice

__all__ = [
    "pytest_addoption", "vitalgate_device", "vitalgate_patient", "vitalgate_person", "vitalgate_scenario",
    "vitalgate_stack",
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --vitalgate-data."""
    parser.getgroup("vitalgate").addoption(
        "--vitalgate-data", metavar="DIR", default=None,
        help="Use the stack that runs in this data directory instead of starting one (fixture vitalgate_stack).",
    )  # fmt: skip


@pytest.fixture(scope="session")
def vitalgate_stack(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """The whole system on this machine, started at first use and stopped at the end of the session.

    With ``--vitalgate-data DIR`` the one that runs there is used, and left running.
    """
    from vitalgate.local.stack import Stack
    from vitalgate.testing.deployment import Deployment

    running = request.config.getoption("--vitalgate-data")
    if running is not None:
        yield Deployment.running(Path(running))
        return
    # PostgreSQL may run as another user, who must be able to pass through.
    with tempfile.TemporaryDirectory(prefix="vitalgate-") as folder:
        Path(folder).chmod(0o711)
        stack = Stack(Path(folder) / "data")
        stack.start()
        try:
            yield Deployment.running(stack.data)
        finally:
            stack.stop(remove=True)


@pytest.fixture
def vitalgate_patient(vitalgate_stack: Deployment) -> Callable[..., str]:
    """Adds a patient and gives its id: `vitalgate_patient(team="cardiology", zone="Europe/Berlin")`."""
    return vitalgate_stack.add_patient


@pytest.fixture
def vitalgate_device(vitalgate_stack: Deployment, tmp_path: Path) -> Iterator[Callable[..., TestedDevice]]:
    """Registers devices: `vitalgate_device("bp-cuff")`, with a patient of its own unless one is given."""
    from vitalgate.testing.device import TestedDevice

    made: list[TestedDevice] = []

    def make(kind: str, *, patient: str | None = None, **options: Any) -> TestedDevice:
        device = TestedDevice.register(vitalgate_stack, kind, patient, tmp_path, **options)
        made.append(device)
        return device

    yield make
    for device in made:
        device.close()


@pytest.fixture
def vitalgate_person() -> Callable[..., Person]:
    """A simulated person: `vitalgate_person(7, spo2=[(0, 97), (30, 84)])`; values are set, times count from now."""
    import time

    from vitalgate.simulators.physiology import Change, Person

    def make(seed: int = 1, **changes: list[tuple[float, float]]) -> Person:
        hands = tuple(Change(what, "set", tuple(points)) for what, points in changes.items())
        return Person(seed, time.time(), hands)

    return make


@pytest.fixture
def vitalgate_scenario(vitalgate_stack: Deployment, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a scenario (a name, a file or a mapping) and gives what `vitalgate simulate --json` says of it."""

    def run(scenario: str | Path | Mapping[str, Any], *options: str) -> dict[str, Any]:
        from vitalgate.testing.deployment import scenario_file

        return vitalgate_stack.simulate(scenario_file(scenario, tmp_path), *options)

    return run
