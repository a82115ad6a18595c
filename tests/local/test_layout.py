"""The data directory: ports, state, the stack file, secrets."""

from __future__ import annotations

import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vitalgate.config.loading import load
from vitalgate.local.errors import StackError
from vitalgate.local.layout import Layout, State, write_stack_file
from vitalgate.local.ports import HOST, Ports, is_free


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.at(tmp_path / "data")
    made.create()
    return made


def test_a_port_is_remembered_from_run_to_run(layout: Layout) -> None:
    port = Ports(State(layout)).take("broker")
    assert Ports(State(layout)).take("broker") == port


def test_a_taken_port_is_replaced_and_the_new_one_remembered(layout: Layout) -> None:
    port = Ports(State(layout)).take("broker")
    with socket.socket() as taker:
        taker.bind((HOST, port))
        taker.listen()
        assert not is_free(port)
        other = Ports(State(layout)).take("broker", port)
        assert other != port
    assert Ports(State(layout)).take("broker", port) == other


def test_no_port_is_given_twice(layout: Layout) -> None:
    ports = Ports(State(layout))
    assert len({ports.take(f"p{n}", 21883) for n in range(20)}) == 20


def test_the_stack_file_is_a_source_of_settings(layout: Layout) -> None:
    dsn = "host=127.0.0.1 passfile='/tmp/it\\'s \"here\"/pgpass'"
    write_stack_file(layout, {"mqtt.port": 21883, "kafka.bootstrap": "127.0.0.1:1", "database.dsn": dsn})
    loaded = load(data=str(layout.data), env={})
    assert loaded.settings.mqtt.port == 21883
    assert loaded.settings.database.dsn == dsn
    assert loaded.sources["database.dsn"] == "stack"
    assert stat.S_IMODE(layout.stack_file.stat().st_mode) == 0o600


def test_secrets_are_random_kept_and_for_the_owner_alone(layout: Layout) -> None:
    path = layout.secret("mqtt-gateway")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o700
    assert len(path.read_text().strip()) >= 32
    assert layout.secret("mqtt-gateway").read_text() == path.read_text()
    assert layout.secret("mqtt-admin").read_text() != path.read_text()


def test_a_broken_state_file_is_started_over(layout: Layout) -> None:
    layout.state_file.write_text("{half")
    assert State(layout).get("ports") is None


def test_the_control_socket_fits_however_long_the_path_is(tmp_path: Path) -> None:
    long = Layout.at(tmp_path / ("d" * 120))
    assert len(str(long.control)) < 104
    assert long.control != Layout.at(tmp_path / ("e" * 120)).control
    assert Layout.at("/srv/vitalgate").control == Path("/srv/vitalgate/control.sock")


def test_a_data_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot be used \(.*\); give another one with --data"):
        Layout.at(tmp_path / "file" / "data").create()


def test_the_state_may_be_set_from_many_threads(layout: Layout) -> None:
    state = State(layout)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: state.set(f"n{n}", n), range(200)))
    assert [State(layout).get(f"n{n}") for n in range(200)] == list(range(200))


def test_two_stacks_that_start_at_once_choose_different_ports(tmp_path: Path) -> None:
    states = []
    for name in "abc":
        made = Layout.at(tmp_path / name)
        made.create()
        states.append(State(made))
    first, second = Ports(states[0]), Ports(states[1])
    port = first.take("kafka1")
    assert second.take("kafka1", port) != port  # though nothing listens there yet
    with pytest.raises(StackError, match=f"mqtt.port is {port}"):
        second.take_exactly("mqtt.port", port)
    del first
    assert Ports(states[2]).take("kafka1", port) == port
