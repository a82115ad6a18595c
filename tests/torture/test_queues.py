"""Every queue of the list is filled by the test that it names, and the workers' buffer here."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from vitalgate.stream.buffer import Buffer
from vitalgate.torture import fault
from vitalgate.torture.queues import QUEUES, Queue

_TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.where)
def test_the_test_that_fills_a_queue_is_there(queue: Queue) -> None:
    if queue.test.startswith("fault "):
        assert queue.test.removeprefix("fault ").strip("`") in fault.known()
        return
    file, _, name = queue.test.partition("::")
    tree = ast.parse((_TESTS / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions


def test_a_full_buffer_lets_its_writer_wait() -> None:
    async def main() -> None:
        buffer: Buffer[int] = Buffer(100, 1000)
        put = 0

        async def fill() -> None:
            nonlocal put
            for n in range(50):
                await buffer.put([n] * 10, 50)
                put += 10

        filling = asyncio.create_task(fill())
        await asyncio.sleep(0.05)
        assert put == 100  # by items; by bytes it would be 200
        taken = buffer.take(60, 10_000)
        assert len(taken) == 60
        await asyncio.sleep(0.05)
        assert put == 160
        while len(taken) < 500:
            await buffer.wait()
            taken += buffer.take(1000, 10_000)
            await asyncio.sleep(0)
        await filling
        assert taken == [n for n in range(50) for _ in range(10)]

    asyncio.run(main())
