"""The bounded buffer between Faust's stream and the batch in hand: one task puts, one takes all that is there."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Buffer(Generic[T]):
    """Bounded by records and by bytes; a single record larger than the byte bound still passes, alone."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._items: deque[tuple[int, T]] = deque()
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, item: T, size: int) -> None:
        """Add one item of this many bytes, waiting while the buffer is full."""
        while self._items and (len(self._items) >= self._max_items or self._bytes + size > self._max_bytes):
            self._emptied.clear()
            await self._emptied.wait()
        self._items.append((size, item))
        self._bytes += size
        self._filled.set()

    async def wait(self) -> None:
        """Until there is something, or `wake` was called."""
        await self._filled.wait()
        if not self._items:
            self._filled.clear()

    def wake(self) -> None:
        """End a `wait` although nothing came."""
        self._filled.set()

    def take(self, max_items: int, max_bytes: int) -> list[T]:
        """What is there, oldest first, up to these bounds (at least one item when there is any)."""
        taken: list[T] = []
        size = 0
        items = self._items
        while items and len(taken) < max_items and (not taken or size + items[0][0] <= max_bytes):
            one, item = items.popleft()
            size += one
            taken.append(item)
        self._bytes -= size
        if not items:
            self._filled.clear()
        self._emptied.set()
        return taken

    def clear(self) -> None:
        """Drop everything."""
        self._items.clear()
        self._bytes = 0
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._items)
