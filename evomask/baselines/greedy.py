"""Greedy search over regions: which of them to show next, so that the class gains and the rest loses the most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evomask.baselines import regions
from evomask.baselines.base import on_host
from evomask.fills import Constant
from evomask.measures.budget import Account, Spent
from evomask.types import Key, record, static


@record
class GreedyRegions:
    """SMDL-Attribution (Chen et al. 2024) for a black box: regions in the order in which a greedy search takes them.

    Of the regions not yet taken it takes the one that makes the objective greatest, see `evomask.baselines.regions`,
    with the weights of the authors' code for black boxes. The paper's confidence score, of a weight of 0.01 there, is
    left out; the effectiveness score needs features. The score of a region is its place in that order; range [0, 1].
    SLIC makes the regions, as many as the budget allows: N (N + 1) evaluations for N regions, 49 at most as in the
    paper. It optimises what insertion and deletion measure.
    """

    regions: int = static(default=49)
    consistency: float = 20.0
    collaboration: float = 5.0
    fill: Callable = Constant()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=_cost(regions.most_affordable(_cost, self.regions, budget)))

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        most = regions.most_affordable(_cost, self.regions, budget)
        return regions.score(self, predict, image, label, key, most, order)


def _cost(num: int) -> int:
    return regions.PRICE * num * (num + 1) // 2


def order(objective: regions.Objective, num: int) -> list[int]:
    """The numbers of the regions, the most telling one first."""
    taken, left = [], list(range(num))
    while left:
        taken.append(left.pop(objective(regions.with_each(taken, left, num)).argmax()))
    return taken
