"""Broker, Kafka and database that belong to this room, so that a test may stop or kill them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gateway.parts import Edge
from vitalgate.local.errors import PartError
from vitalgate.local.stack import Stack


@pytest.fixture(scope="session")
def edge_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker, a Kafka node and a database."""
    stack = Stack(tmp_path_factory.mktemp("edge"), only={"mqtt", "kafka", "postgres"})
    try:
        stack.start()
    except PartError as error:
        pytest.skip(f"a part is missing on this machine: {error}")
    yield stack
    stack.stop()


@pytest.fixture
def make_edge(edge_stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Edge]]:
    """Deployments with settings of one's own."""
    made: list[Edge] = []

    def make(**flags: str) -> Edge:
        edge = Edge(edge_stack, tmp_path, **flags)
        made.append(edge)
        return edge

    yield make
    for edge in made:
        edge.close()


@pytest.fixture(scope="module")
def served_edge(edge_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """A deployment with a gateway and a notifier running, shared by a module's tests."""
    edge = Edge(edge_stack, tmp_path_factory.mktemp("served"))
    processes = [edge.run("gateway"), edge.run("notifier")]
    for process in processes:
        process.ready()
    yield edge
    edge.close()


@pytest.fixture
def edge(make_edge: Callable[..., Edge]) -> Edge:
    """A deployment with default settings."""
    return make_edge()
