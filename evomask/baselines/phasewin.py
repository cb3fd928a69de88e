"""Search for an order of regions in phases: all are asked at the start of one, a window of them within it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evomask.baselines import regions
from evomask.baselines.base import on_host
from evomask.fills import Constant
from evomask.measures.budget import Account, BudgetExceeded, Spent
from evomask.types import Key, record, static

SHARE = 0.2  # of greedy search's evaluations, which the paper says are enough


@record
class PhaseWin:
    """PhaseWin (Gu et al. 2025): nearly the order of greedy search for a fraction of its evaluations.

    A phase takes the region of the greatest gain, asks all others again, lays aside for good those of less than `prune`
    of the greatest gain, and lines up those of at least `admit` of it. The first `window` of these are asked again and
    again, and all that gain at least that much still, and `batch` of the window's best, are taken together. The phase
    ends where none does, or where gains fall faster than before by more than `drop` (and the last one is taken only if
    it gains `keep` of the one before). Regions that are never taken follow by their gain, those laid aside last. The
    settings are those of the authors' code. Its deferral by chance, which matters only where more than a window of
    regions is lined up, is left out, so that the result has no chance in it.

    The objective is that of `GreedyRegions`, here for up to 100 regions, as many as a fifth of greedy search's
    evaluations pay for. Where they are spent before the search is through, the latest gains order what is left.
    """

    regions: int = static(default=100)
    window: int = static(default=16)
    prune: float = 0.3
    admit: float = 0.8
    batch: float = 0.9
    drop: float = 0.025
    keep: float = 0.95
    consistency: float = 20.0
    collaboration: float = 5.0
    fill: Callable = Constant()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=budget)

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        most = regions.most_affordable(lambda num: int(SHARE * num * (num + 1)), self.regions, budget)
        search = lambda objective, num: _Search(self, objective, num).order()
        return regions.score(self, predict, image, label, key, most, search)


class _Search:
    """One search, with what it has taken so far and what every region gained when it was last asked."""

    def __init__(self, settings: PhaseWin, objective: regions.Objective, num: int):
        self.settings, self.objective, self.num = settings, objective, num
        self.taken: list[int] = []
        self.start = 0  # of the phase, among those taken
        self.latest = np.zeros(num)

    def order(self) -> list[int]:
        """The numbers of the regions, the most telling one first."""
        left, aside = list(range(self.num)), []
        try:
            while left and self._take_best(left):
                aside += self._phase(left)
            self._gains(left)
            self._gains(aside)
        except BudgetExceeded:
            left = [each for each in range(self.num) if each not in self.taken and each not in aside]
        return self.taken + self._by_gain(left) + self._by_gain(aside)

    def _take_best(self, left: list[int]) -> bool:
        """Whether one of them gains anything; the one that gains the most is moved to those taken."""
        gains = self._gains(left)
        if gains.max() <= 0:
            return False
        self.start = len(self.taken)
        self.taken.append(left.pop(gains.argmax()))
        return True

    def _phase(self, left: list[int]) -> list[int]:
        """The rest of a phase: takes from `left`, and removes and returns what is laid aside."""
        if not left or (most := self._gains(left).max()) <= 0:
            return []
        aside = [each for each in left if self.latest[each] < self.settings.prune * most]
        lined_up = self._by_gain([each for each in left if self.latest[each] >= self.settings.admit * most])
        goes_on = True
        while goes_on and lined_up:
            goes_on = self._take_window(lined_up, self.settings.admit * most)
        left[:] = [each for each in left if each not in self.taken and each not in aside]
        return aside

    def _take_window(self, lined_up: list[int], least: float) -> bool:
        """Moves those of the first ones that gain enough to those taken; whether the phase goes on."""
        window = lined_up[: self.settings.window]
        before = [self.latest[each] for each in self.taken[self.start :][-2:]]
        gains = self._gains(window)
        enough = gains >= max(least, self.settings.batch * gains.max())
        for each, gain in zip(np.array(window)[enough].tolist(), gains[enough].tolist(), strict=True):
            falls = self._falls(before, gain)
            if falls and gain < self.settings.keep * before[-1]:
                return False
            self.taken.append(each)
            lined_up.remove(each)
            before.append(gain)
            if falls:
                return False
        return bool(enough.any())

    def _falls(self, before: list[float], gain: float) -> bool:
        """Whether the ratio of one gain to the next has grown by more than `drop`."""
        return len(before) > 1 and before[-1] / max(gain, 1e-12) - before[-2] / before[-1] > self.settings.drop

    def _gains(self, some: list[int]) -> np.ndarray:
        """f64[N], what each of them would add to those taken; remembered."""
        if not some:
            return np.zeros(0)
        alone = np.zeros((1, self.num), bool)
        alone[:, self.taken] = True
        base, *found = self.objective(np.concatenate([alone, regions.with_each(self.taken, some, self.num)]))
        self.latest[some] = np.array(found) - base
        return self.latest[some]

    def _by_gain(self, some: list[int]) -> list[int]:
        return sorted(some, key=lambda each: -self.latest[each])
