"""Our own processes: all of them, several of some."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitalgate.local.errors import StackError
from vitalgate.local.layout import Layout, State
from vitalgate.local.plan import own_processes
from vitalgate.local.ports import Ports
from vitalgate.local.processes import ALL, spec, with_copies


def test_without_copies_each_runs_once() -> None:
    assert with_copies("") == list(ALL)
    assert {process.name for process in ALL} >= {"gateway", "notifier", "registrar", "intake", "recorder", "auditor"}


def test_a_copy_has_a_name_a_slot_and_a_port_of_its_own(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    layout.create()
    ports = Ports(State(layout))
    specs = {p.name: spec(p, ports, {}) for p in with_copies("intake=3,gateway=2")}
    assert [name for name in specs if name.startswith(("intake", "gateway"))] == [
        "intake", "intake-1", "intake-2", "gateway", "gateway-1",
    ]  # fmt: skip
    assert "VITALGATE_WORKER_SLOT" not in specs["intake"].env
    assert specs["intake-2"].env["VITALGATE_WORKER_SLOT"] == "2"
    assert specs["gateway-1"].env["VITALGATE_GATEWAY_SLOT"] == "1"
    assert specs["intake-2"].argv[-2:] == ("worker", "intake")
    assert len({each.env["VITALGATE_HEALTH_PORT"] for each in specs.values()}) == len(specs)


def test_a_name_alone_starts_all_its_copies() -> None:
    assert [process.name for process in own_processes({"intake"}, "intake=2")] == ["intake", "intake-1"]


@pytest.mark.parametrize("copies", ["auditor=2", "notifier=2", "nobody=2"])
def test_what_runs_once_is_not_copied(copies: str) -> None:
    with pytest.raises(StackError, match=rf"local\.copies names '{copies[:-2]}'"):
        with_copies(copies)
