"""What the searches for an order of regions share: SLIC's regions, what is asked of a set of them, and the score.

`SMDL`, `LiMA` and `PhaseWin` differ in how they search only.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from evomask.baselines.lime import segment
from evomask.measures.budget import Account
from evomask.types import Key

PRICE = 2  # evaluations for one set of regions: those alone, and the rest alone
Objective = Callable[[np.ndarray], np.ndarray]  # bool[N, regions] -> f32[N], greater where a set says more


def score(
    method,
    predict: Account,
    image: np.ndarray,
    label: int,
    key: Key,
    most: int,
    search: Callable[[Objective, int], list],
) -> np.ndarray:
    """f32[H, W]: the place of each pixel's region in the order that `search(objective, num)` puts `most` regions in.

    What is asked of a set is `consistency` p(set) + `collaboration` (1 - p(rest)), p the label's probability with the
    other regions blanked: the consistency and the collaboration score of Chen et al. 2024. The place rather than the
    change of the objective is the score, as in the authors' curves: by the change all regions are equal once one has
    decided the class. Zero where the objective never changes, for then there is no order.
    """
    fill_key, _ = jax.random.split(key)
    blank, wanted, seen = np.asarray(method.fill(fill_key, image)), most, []
    while (regions := segment(np.asarray(image), wanted)).max() + 1 > most:  # SLIC finds a few more or less
        wanted -= 1

    def objective(kept: np.ndarray) -> np.ndarray:
        shown = np.concatenate([kept, ~kept])[:, regions][..., None]
        masked, rest = np.split(predict(np.where(shown, image[None], blank[None]))[:, label], 2)
        seen.append(method.consistency * masked + method.collaboration * (1 - rest))
        return seen[-1]

    num = int(regions.max()) + 1
    order = search(objective, num)
    places = np.zeros(num, np.float32)
    places[order] = np.linspace(1, 1 / num, num, dtype=np.float32)
    return np.where(np.ptp(np.concatenate(seen)) > 0, places, np.zeros_like(places))[regions]


def with_each(taken: list[int], left: list[int], num: int) -> np.ndarray:
    """bool[N, num]: those taken and each of N others.

    >>> with_each([0], [1, 2], 3).astype(int).tolist()
    [[1, 1, 0], [1, 0, 1]]
    """
    sets = np.eye(num, dtype=bool)[left]
    sets[:, taken] = True
    return sets


def most_affordable(cost: Callable[[int], int], most: int, budget: int) -> int:
    """The most regions, up to `most`, of which a search costs no more than the budget, and at least one."""
    return next((num for num in range(most, 1, -1) if cost(num) <= budget), 1)
