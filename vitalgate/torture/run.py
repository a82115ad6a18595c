"""A run of rounds: rigs started and stopped, the reference made, every round tallied."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitalgate.config.settings import Settings
from vitalgate.devices.catalogue import Catalogue
from vitalgate.simulators.cast import Registry
from vitalgate.torture.fault import Fault, known
from vitalgate.torture.outcome import Outcome
from vitalgate.torture.plan import Planned, plan
from vitalgate.torture.rig import Rig
from vitalgate.torture.round import Bench, Result, Round
from vitalgate.torture.shape import Shape
from vitalgate.torture.tally import Tally
from vitalgate.torture.witness import Witness


@dataclass
class Run:
    """One `vitalgate torture`.

    Parameters
    ----------
    registry
        Makes the system's registry from its settings.
    keep
        Leave the folder of a round that failed, logs and journals in it, and name it.
    """

    tally: Tally
    seed: int
    registry: Callable[[Settings], Registry]
    catalogue: Catalogue
    say: Callable[[str], None] = lambda _text: None
    keep: bool = False
    within_s: float | None = None
    """No round begins after so long."""
    results: list[Result] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    """Faults that this machine cannot have, and why."""

    def rounds(self, first: int, count: int, faults: Sequence[tuple[Fault, ...]]) -> list[Result]:
        """Run them; the results, also in the tally."""
        self.left_out = {one.name: why for some in faults for one in some if (why := one.shape.missing())}
        possible = [some for some in faults if not any(one.name in self.left_out for one in some)]
        for name, why in self.left_out.items():
            self.say(f"{name} is left out: {why}")
        planned = plan(first, count, self.seed, possible) if possible else []
        for shape in dict.fromkeys(each.faults[0].shape for each in planned):
            self._on(shape, [each for each in planned if each.faults[0].shape == shape])
        return self.results

    def _on(self, shape: Shape, planned: list[Planned]) -> None:
        left = list(planned)
        while left and not self._late():
            left = self._on_one_rig(shape, left)

    def _late(self) -> bool:
        return self.within_s is not None and time.monotonic() - self._began > self.within_s

    def _on_one_rig(self, shape: Shape, planned: list[Planned]) -> list[Planned]:
        """Run until all are done or a round has failed: the next one gets a system that is whole."""
        folder = Path(tempfile.mkdtemp(prefix="vitalgate-torture-"))
        folder.chmod(0o711)
        rig = Rig(folder / "rig", shape, random.Random(self.seed))  # noqa: S311  no secret
        good = False
        self.say(f"starting a system: {shape.name}")
        try:
            rig.start()
            settings = rig.settings
            bench = Bench(
                rig, self.registry(settings), self.catalogue, folder, Witness(settings.kafka), self.say
            )  # fmt: skip
            reference = self._reference(bench)
            for place, each in enumerate(planned):
                if self._late():
                    break
                self.say(f"round {each.number}: {', '.join(fault.name for fault in each.faults)}")
                one = Round(bench, each.number, self.seed, self.seed, each.faults)
                one.run(reference)
                self._take(one.result, folder)
                if not one.result.good:
                    return planned[place + 1 :]
            good = True
            return []
        finally:
            rig.stop(remove=good or not self.keep)
            if good or not self.keep:
                import shutil

                shutil.rmtree(folder, ignore_errors=True)

    def _reference(self, bench: Bench) -> Outcome:
        kept = self.tally.reference(self.seed)
        if kept is not None:
            return kept
        self.say("the undisturbed round of this seed")
        one = Round(bench, 0, self.seed, self.seed, [known()["none"]])
        found = one.run(None)
        if not one.result.good:
            raise RuntimeError(f"the undisturbed round is not right by itself: {'; '.join(one.result.wrong)}")
        return self.tally.keep_reference(self.seed, found)

    def _take(self, result: Result, folder: Path) -> None:
        if not result.good and self.keep:
            result.notes["kept"] = str(folder)
        self.results.append(result)
        self.tally.add(result)
        resumed = f", back after {result.resume_s:g} s" if result.resume_s is not None else ""
        self.say(
            f"  {'good' if result.good else 'NOT GOOD'}: {result.sent} messages, lost {result.lost}, duplicates"
            f" {result.duplicates}, differences {result.differences}{resumed}; {result.seconds:g} s"
        )
        for text in result.wrong:
            self.say(f"    ! {text}")
