"""Fetch and prepare once what every start uses: Kafka's jars, a formatted node, its classes ready to map.

`make setup` runs this. Nothing depends on it but time: without it the first `vitalgate up` fetches the jars itself,
and the JVM takes three seconds of processor time more at each start.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vitalgate.config.loading import load
from vitalgate.local import jars, probes
from vitalgate.local.errors import PartError
from vitalgate.local.kafka import Kafka, aot_cache
from vitalgate.local.layout import Layout, State
from vitalgate.local.ports import HOST, Ports

_READY_S = 60.0
_WRITE_S = 120.0


def warm() -> bool:
    """Bring the cache up to date; True when there was something to do.

    Raises
    ------
    PartError
        When jars cannot be fetched or Kafka does not start.
    """
    jars.classpath()
    target = aot_cache()
    if target.is_file():
        return False
    with tempfile.TemporaryDirectory(prefix="vitalgate-warm-") as folder:
        layout = Layout(Path(folder))
        layout.create()
        state = State(layout)
        kafka = Kafka(layout, state, Ports(state), load(env={}, data=folder))
        (spec,) = kafka.prepare()
        part = target.with_suffix(".part")
        argv = [spec.argv[0], f"-XX:AOTCacheOutput={part}", *spec.argv[1:]]
        with layout.log("kafka").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
            try:
                asyncio.run(_answers(int(kafka.bootstrap.rpartition(":")[2]), process))
                _exercise(kafka.bootstrap)
                process.send_signal(signal.SIGTERM)
                process.wait(_WRITE_S)
            finally:
                process.kill()
                process.wait()
        if not part.is_file():
            raise PartError(f"Kafka's class cache was not written:\n{layout.log('kafka').read_text()[-800:]}")
        part.replace(target)
    return True


async def _answers(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _READY_S
    while True:
        try:
            await probes.kafka(HOST, port)
            return
        except (OSError, probes.ProbeError) as error:
            if process.poll() is not None or time.monotonic() > until:
                raise PartError(f"Kafka did not start within {_READY_S:g} s: {error}") from error
        await asyncio.sleep(0.1)


def _exercise(bootstrap: str) -> None:
    """Load the classes of everyday work too."""
    from vitalgate.config.settings import KafkaSettings
    from vitalgate.local.topics import create_topics

    create_topics(KafkaSettings.model_validate({"bootstrap": bootstrap}))


def main() -> int:
    """Warm up and say what was done."""
    began = time.monotonic()
    try:
        done = warm()
    except PartError as error:
        print(f"vitalgate: {error}", file=sys.stderr)
        return 1
    if done:
        print(f"Kafka {jars.kafka_version()} is ready to start ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
