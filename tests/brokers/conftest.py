"""Each broker, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers.parts import Broker
from vitalgate.local import mosquitto, rabbitmq
from vitalgate.local.errors import PartError
from vitalgate.local.stack import Stack


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Broker]]:
    """Those that have been asked for."""
    running: dict[str, Broker] = {}
    yield running
    for broker in running.values():
        broker.stack.stop(remove=True)


@pytest.fixture(params=["mosquitto", "rabbitmq"])
def broker(
    request: pytest.FixtureRequest, brokers: dict[str, Broker], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """One broker after the other."""
    name: str = request.param
    if name not in brokers:
        try:
            (rabbitmq if name == "rabbitmq" else mosquitto).executable()
        except PartError as error:
            pytest.skip(f"a part is missing on this machine: {error}")
        stack = Stack(tmp_path_factory.mktemp(name), {"mqtt.broker": name}, {"mqtt"})
        stack.start()
        brokers[name] = Broker(name, stack)
    yield brokers[name]
    brokers[name].tidy()
