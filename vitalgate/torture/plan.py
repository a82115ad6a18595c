"""Which faults in which round: drawn from the seed, the same ones whenever it is asked again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from vitalgate.torture.fault import Fault

#: How often a round has a second fault.
_SECOND = 0.4


@dataclass(frozen=True)
class Planned:
    """One round to come."""

    number: int
    faults: tuple[Fault, ...]


def plan(first: int, count: int, seed: int, faults: Sequence[tuple[Fault, ...]]) -> list[Planned]:
    """Rounds `first` to `first + count - 1`, those of one shape together.

    Every fault has its turn before one is drawn twice; a second one of the same shape joins in now and then, unless
    there is one choice only: that is how a round is repeated.
    """
    rounds = [Planned(number, _drawn(number, seed, faults)) for number in range(first, first + count)]
    shapes = list(dict.fromkeys(each.faults[0].shape for each in rounds))
    return sorted(rounds, key=lambda each: shapes.index(each.faults[0].shape))


def _drawn(number: int, seed: int, faults: Sequence[tuple[Fault, ...]]) -> tuple[Fault, ...]:
    lap, place = divmod(number - 1, len(faults))
    order = list(faults)
    random.Random(f"{seed} lap {lap}").shuffle(order)  # noqa: S311  no secret
    if len(order[place]) > 1:
        return order[place]
    (first,) = order[place]
    chance = random.Random(f"{seed} {number} second")  # noqa: S311  no secret
    singles = [one for (one, *rest) in faults if not rest]
    others = [one for one in singles if one is not first and not one.alone and one.shape == first.shape]
    if first.alone or not others or chance.random() > _SECOND:
        return (first,)
    return first, chance.choices(others, [one.weight for one in others])[0]
