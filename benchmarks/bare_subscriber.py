"""The baseline: how fast a bare paho subscriber that acknowledges and drops drains the broker, in its own process.

`python -m benchmarks.bare_subscriber HOST PORT USER TOPIC COUNT` reads the password from standard input, prints
`ready`, and then what it measured as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

_PATIENCE_S = 120.0
_QUIET_S = 5.0


class BareSubscriber:
    """Subscribes at QoS 1 on its own connection, counts, and throws away."""

    def __init__(self, host: str, port: int, username: str, password: str, topic: str) -> None:
        self.count = 0
        self.first = self.last = 0.0
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{username}-bare", clean_session=True)
        self._client.username_pw_set(username, password)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect(host, port)
        self._client.loop_start()
        if not self._ready.wait(10):
            raise ConnectionError(f"no subscription to {topic} within 10 s")

    def _take(self, _client: Any, _data: Any, _message: Any) -> None:
        self.count += 1
        self.last = time.time()
        if self.count == 1:
            self.first = self.last

    def wait(self, expected: int) -> None:
        """Until all have come, or none came for some seconds."""
        deadline = time.time() + _PATIENCE_S
        while self.count < expected and time.time() < deadline:
            if self.count and time.time() - self.last > _QUIET_S:
                break
            time.sleep(0.02)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class BareProcess:
    """The baseline in a process of its own."""

    def __init__(self, host: str, port: int, username: str, password: str, topic: str, expected: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_subscriber", host, str(port), username, topic, str(expected)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(password + "\n")
        self._process.stdin.close()
        if self._process.stdout.readline().strip() != "ready":
            raise ConnectionError("the bare subscriber did not get its subscription; its message stands above")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()

    def result(self) -> dict[str, float]:
        """`count`, `first` and `last` (seconds since 1970) and `cpu_s`, when it has ended."""
        assert self._process.stdout
        return dict(json.loads(self._process.stdout.readline()))


def main() -> None:
    """The process."""
    host, port, username, topic, expected = sys.argv[1:]
    subscriber = BareSubscriber(host, int(port), username, sys.stdin.readline().strip(), topic)
    before = time.process_time()
    print("ready", flush=True)
    subscriber.wait(int(expected))
    found = {
        "count": subscriber.count,
        "first": subscriber.first,
        "last": subscriber.last,
        "cpu_s": time.process_time() - before,
    }
    print(json.dumps(found), flush=True)
    subscriber.close()


if __name__ == "__main__":
    main()
