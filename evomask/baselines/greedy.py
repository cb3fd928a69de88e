"""Greedy search over regions: which of them to show next, so that the class gains and the rest loses the most."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from evomask.baselines.base import on_host
from evomask.baselines.lime import segment
from evomask.fills import Constant
from evomask.measures.budget import Account, Spent
from evomask.types import Key, record, static


@record
class GreedyRegions:
    """SMDL-Attribution (Chen et al. 2024) for a black box: regions in the order in which a greedy search takes them.

    Of the regions not yet taken it takes the one that makes `consistency` p(taken) + `collaboration` (1 - p(rest))
    greatest, p the label's probability with the other regions blanked: the consistency and the collaboration score of
    the paper, with the weights of the authors' code for black boxes. Its confidence score, of a weight of 0.01 there,
    is left out; the effectiveness score needs features. LiMA (Chen et al. 2025) has the same objective and searches
    from both ends. The score of a region is its place in that order, for by the change of the objective, as in the
    paper, all regions are equal once one has decided the class; range [0, 1]. SLIC makes the regions, as many as the
    budget allows: N (N + 1) evaluations for N regions, 49 at most as in the paper. It optimises what insertion and
    deletion measure.
    """

    regions: int = static(default=49)
    consistency: float = 20.0
    collaboration: float = 5.0
    fill: Callable = Constant()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        num = self._affordable(budget)
        return Spent(forward=num * (num + 1))

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        fill_key, _ = jax.random.split(key)
        blank, most = np.asarray(self.fill(fill_key, image)), self._affordable(budget)
        wanted = most
        while (regions := segment(np.asarray(image), wanted)).max() + 1 > most:  # SLIC finds a few more or less
            wanted -= 1

        def objective(kept: np.ndarray) -> np.ndarray:
            """bool[N, regions] -> f32[N]"""
            shown = np.concatenate([kept, ~kept])[:, regions][..., None]
            masked, rest = np.split(predict(np.where(shown, image[None], blank[None]))[:, label], 2)
            return self.consistency * masked + self.collaboration * (1 - rest)

        return _scores(objective, int(regions.max()) + 1)[regions]

    def _affordable(self, budget: int) -> int:
        """The most regions of which the search costs no more."""
        return max(min(self.regions, int((budget + 0.25) ** 0.5 - 0.5)), 1)


def _scores(objective: Callable[[np.ndarray], np.ndarray], num: int) -> np.ndarray:
    """f32[num]: 1 for the region that a greedy search takes first, and so on in equal steps, 1 / num for the last.

    0 where the objective never changes, for then there is no order.
    """
    taken, scores, seen = np.zeros(num, bool), np.zeros(num, np.float32), []
    for place in range(num):
        left = np.flatnonzero(~taken)
        values = objective(taken[None] | np.eye(num, dtype=bool)[left])
        best = left[values.argmax()]
        taken[best], scores[best] = True, (num - place) / num
        seen.extend(values)
    return scores if np.ptp(seen) > 0 else np.zeros_like(scores)
