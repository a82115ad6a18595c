"""One GraphQL request: who asks, and loaders that gather what is asked for one by one into one statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from strawberry.dataloader import DataLoader

from vitalgate.api.entry import Entry
from vitalgate.records.record_type import RecordType
from vitalgate.storage import records_read
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.records_read import Record

T = TypeVar("T")


class Asking:
    """What resolvers are given."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._loaders: dict[tuple[str, int], DataLoader[str, Any]] = {}

    async def do(self, work: Callable[[Transaction], T]) -> T:
        """Work in a transaction in the caller's name."""

        def run() -> T:
            with self.entry.acting() as tx:
                return work(tx)

        return await run_in_threadpool(run)

    def by_patient(self, kind: RecordType, each: int) -> DataLoader[str, list[Record]]:
        """Records of a kind by patient."""

        async def load(patients: list[str]) -> list[list[Record]]:
            found = await self.do(
                lambda tx: records_read.find_many(tx, kind, "patient", list(dict.fromkeys(patients)), each)
            )
            return [found.get(patient, []) for patient in patients]

        return self._loader((kind.name, each), load)

    def by_id(self, kind: RecordType) -> DataLoader[str, Record | None]:
        """Records of a kind by id."""

        async def load(ids: list[str]) -> list[Record | None]:
            found = await self.do(lambda tx: records_read.get_many(tx, kind, list(dict.fromkeys(ids))))
            return [found.get(one) for one in ids]

        return self._loader((kind.name, 0), load)

    def _loader(self, key: tuple[str, int], load: Callable[[list[str]], Any]) -> DataLoader[str, Any]:
        if key not in self._loaders:
            self._loaders[key] = DataLoader(load_fn=load)
        return self._loaders[key]
