"""The bounded buffer between Faust's stream and the batch in hand: one task puts, one takes all that is there."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Buffer(Generic[T]):
    """Pieces (lists of items), bounded by items and by bytes; a piece larger than that still passes, alone."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._pieces: deque[tuple[list[T], int]] = deque()
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items = 0
        self._bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, piece: list[T], size: int) -> None:
        """Add items that together have this many bytes, waiting while the buffer is full."""
        while self._pieces and (self._items + len(piece) > self._max_items or self._bytes + size > self._max_bytes):
            self._emptied.clear()
            await self._emptied.wait()
        self._pieces.append((piece, size))
        self._items += len(piece)
        self._bytes += size
        self._filled.set()

    async def wait(self) -> None:
        """Until there is something, or `wake` was called."""
        await self._filled.wait()
        if not self._pieces:
            self._filled.clear()

    def wake(self) -> None:
        """End a `wait` although nothing came."""
        self._filled.set()

    def take(self, max_items: int, max_bytes: int) -> list[T]:
        """Whole pieces, oldest first, as many as fit these bounds (at least one when there is any)."""
        taken: list[T] = []
        size = 0
        pieces = self._pieces
        while pieces:
            piece, one = pieces[0]
            if taken and (len(taken) + len(piece) > max_items or size + one > max_bytes):
                break
            pieces.popleft()
            taken += piece
            size += one
        self._items -= len(taken)
        self._bytes -= size
        if not pieces:
            self._filled.clear()
        self._emptied.set()
        return taken

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self._items = self._bytes = 0
        self._emptied.set()

    def __len__(self) -> int:
        return self._items
