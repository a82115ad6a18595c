"""A device needs the standard library, paho-mqtt and cbor2: nothing of what the server needs is imported."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    names = {%s}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is blocked here")
        return None

sys.meta_path.insert(0, Blocked())
import vitalgate.client
%s
vitalgate.client.%s
"""
SERVER_ONLY = (
    "numpy", "scipy", "msgspec", "orjson", "pydantic", "faust", "mode", "aiokafka", "kafka", "confluent_kafka",
    "psycopg", "psycopg_pool", "prometheus_client", "uvloop", "aiomqtt", "neurokit2", "wfdb", "matplotlib", "pyarrow",
    "cryptography", "click", "rich",
)  # fmt: skip


def _run(blocked: tuple[str, ...], use: str, last: str) -> None:
    program = PROGRAM % (", ".join(map(repr, blocked)), use, last)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_device_imports_nothing_of_the_server() -> None:
    _run(SERVER_ONLY, "vitalgate.client.Device", "Device")


def test_the_parts_do_without_an_mqtt_library() -> None:
    _run((*SERVER_ONLY, "paho"), "vitalgate.client.Outbox(':memory:').add('readings', b'{}')", "Tracker")
