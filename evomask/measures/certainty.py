"""What counts of showings say of a mask: shares, their bounds, whether it holds, and all that in a sentence.

See `evomask.holding`, which counts. Runs on the host, in NumPy and SciPy.
"""

from __future__ import annotations

import dataclasses  # noqa: F401 (for the doctest)
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from evomask.types import record, static

LEVEL = 0.9  # the precision that a mask has to have, to hold
CONFIDENCE = 0.95  # of every bound and interval


@record
class Tally:
    """One figure of each kind: in how many showings it was so, or what is made of that."""

    sufficient: np.ndarray  # the masked picture keeps the class, and enough of the whole picture's confidence
    necessary: np.ndarray  # the inverse-masked picture loses the class
    complete: np.ndarray  # both
    decision: np.ndarray  # the whole picture, nothing blanked, keeps the class


@record
class Precision:
    """How often the masks of B pictures do what they should; NumPy arrays.

    `held[i]` is that of one image, without the leading axis.

    >>> counts, apart = Tally(*np.array([[195], [200], [195], [200]])), Tally(*np.zeros((4, 1, 0), int))
    >>> held = Precision(counts, apart, np.array([600]), np.array([False]), draws=200, draws_apart=0)
    >>> held.estimate.complete.tolist(), held.lower.complete.round(3).tolist(), held.holds.tolist()
    ([0.975], [0.948], [True])
    """

    counts: Tally  # int32[B], of `draws` showings
    counts_apart: Tally  # int32[B, N], of `draws_apart` showings with one perturbation only, see `names`
    evaluations: np.ndarray  # int32[B], images sent through the classifier for it, apart from those of the search
    counterfactual: np.ndarray  # bool[B], another class is predicted: the mask can be sufficient, and no decision holds
    draws: int = static()
    draws_apart: int = static()
    level: float = static(default=LEVEL)
    demand: str = static(default="complete")  # what has to be so in that part of the showings: a field of `Tally`
    finalists: int = static(default=1)  # masks that could have been judged in place of this one; bounds pay for it
    names: tuple[str, ...] = static(default=())  # of the N perturbations that were shown by themselves

    def __getitem__(self, index: int | slice) -> Precision:
        return jax.tree.map(lambda field: field[index], self)

    @property
    def estimate(self) -> Tally:
        """f64[B], the share of the showings."""
        return jax.tree.map(lambda count: count / self.draws, self.counts)

    @property
    def lower(self) -> Tally:
        """f64[B], one-sided bounds: each is at most the probability, with 95 % confidence."""
        return jax.tree.map(lambda count: lower_bound(count, self.draws, self.confidence), self.counts)

    @property
    def confidence(self) -> float:
        """With which each of these bounds is true, so that one for the best of the finalists is with 95 %."""
        return 1 - (1 - CONFIDENCE) / self.finalists

    @property
    def interval(self) -> Tally:
        """f64[B, 2], two-sided intervals of 95 % confidence."""
        return jax.tree.map(lambda count: interval(count, self.draws), self.counts)

    @property
    def holds(self) -> np.ndarray:
        """bool[B], whether the mask does what is demanded at the level; a counterfactual one is sufficient."""
        lower = self.lower
        return np.where(self.counterfactual, lower.sufficient, getattr(lower, self.demand)) >= self.level

    @property
    def decision_holds(self) -> np.ndarray:
        """bool[B], whether the whole picture keeps its class at the level."""
        return self.lower.decision >= self.level

    @property
    def decision_breaks(self) -> np.ndarray:
        """bool[B], whether it does not, of as many showings as could tell; another class than the predicted one has no
        decision to keep.
        """
        can_tell = self.draws >= fewest(self.level, self.confidence)
        return np.logical_not(self.decision_holds | self.counterfactual) & can_tell

    @property
    def holds_apart(self) -> Tally:
        """bool[B, N], of each figure whether it reaches the level under each perturbation by itself."""
        return jax.tree.map(lambda count: lower_bound(count, self.draws_apart) >= self.level, self.counts_apart)

    @property
    def asked(self) -> str:
        """What the mask of one image is judged for: one for a class that another has won can only be sufficient."""
        return "sufficient" if self.counterfactual else self.demand

    def summary(self) -> dict[str, Any]:
        """The figures of one image (no leading axis) as plain Python values."""
        figures = {
            name: {"count": int(count), "share": float(share), "lower": float(lower), "interval": both.tolist()}
            for name, count, share, lower, both in zip(
                vars(self.counts), *(vars(t).values() for t in (self.counts, self.estimate, self.lower, self.interval))
            )
        }
        columns = {name: counts.tolist() for name, counts in vars(self.counts_apart).items()}
        return {
            "holds": bool(self.holds),
            "decision_holds": bool(self.decision_holds),
            "level": self.level,
            "demand": self.demand,
            "draws": self.draws,
            "draws_apart": self.draws_apart,
            "evaluations": int(self.evaluations),
            **figures,
            "apart": {
                name: {kind: counts[index] for kind, counts in columns.items()} for index, name in enumerate(self.names)
            },
        }


def lower_bound(count: Any, draws: int, confidence: float = CONFIDENCE) -> np.ndarray:
    """f64[...], the one-sided bound of Clopper & Pearson (1934) for a probability, from int[...] counts of `draws`.

    Whatever the probability, the bound exceeds it with a chance of at most 1 - confidence.

    >>> lower_bound([0, 150, 188, 200], 200).round(3).tolist()
    [0.0, 0.695, 0.905, 0.985]
    """
    from scipy.special import betaincinv  # only those who judge masks wait for it

    count = np.asarray(count, np.float64)
    return np.where(count > 0, betaincinv(np.maximum(count, 1), draws - count + 1, 1 - confidence), 0.0)


def interval(count: Any, draws: int, confidence: float = CONFIDENCE) -> np.ndarray:
    """f64[..., 2], the two-sided interval of Clopper & Pearson (1934).

    >>> interval(188, 200).round(3).tolist(), interval(0, 10).round(3).tolist()
    ([0.898, 0.969], [0.0, 0.308])
    """
    count, tail = np.asarray(count), (1 + confidence) / 2
    return np.stack([lower_bound(count, draws, tail), 1 - lower_bound(draws - count, draws, tail)], axis=-1)


def fewest(level: float, confidence: float = CONFIDENCE) -> int:
    """The least number of draws that can show a level, all of them being successes.

    >>> fewest(0.9), bool(lower_bound(29, 29) >= 0.9), bool(lower_bound(28, 28) >= 0.9)
    (29, True, False)
    """
    return math.ceil(math.log(1 - confidence) / math.log(level))


def least_that_holds(draws: int, level: float = LEVEL) -> int:
    """The least count of so many draws that shows a level; all of them, where even that is not enough.

    >>> least_that_holds(200), least_that_holds(64), least_that_holds(20)
    (188, 62, 20)
    """
    return int(np.append(np.flatnonzero(lower_bound(np.arange(draws + 1), draws) >= level), draws)[0])


def sentence(held: Precision) -> str:
    """The precision of one image (no leading axis) in words: whether decision and mask hold, and what breaks them.

    >>> tally = lambda *figures: Tally(*np.array(figures))
    >>> apart = tally([200, 90], [200, 200], [200, 90], [200, 200])
    >>> held = Precision(tally(120, 200, 120, 200), apart, 1800, False, 200, 200, names=("shift", "blur fill"))
    >>> print(sentence(held))
    the mask does not hold at 0.9: it is sufficient and necessary in 120 of 200 showings (0.53 or more, with 95 %
    confidence), sufficient in 120 and necessary in 200; by itself, it holds under shift, not under blur fill (90 of
    200)
    >>> broken = tally([150, 20], [200, 200], [150, 20], [200, 140])
    >>> print(sentence(dataclasses.replace(held, counts=tally(10, 200, 10, 140), counts_apart=broken)))
    the decision does not hold at 0.9: the whole picture keeps its class in 140 of 200 showings (0.64 or more, with 95 %
    confidence); by itself, it holds under shift, not under blur fill (140 of 200); the mask is sufficient and necessary
    in 10 of 200
    """
    what = held.asked
    counts, of, at = held.counts, f"of {held.draws}", f"at {held.level:g}"
    does = f"is {_DOES[what]} in {getattr(counts, what)} {of}"
    least = fewest(held.level, held.confidence)
    end = f"; so few draws cannot show {held.level:g}, {least} can" if held.draws < least else ""
    if not held.decision_holds and not held.counterfactual:
        kept = f"the whole picture keeps its class in {counts.decision} {of} showings{_confident(held.lower.decision)}"
        return f"the decision does not hold {at}: {kept}{_breaking(held, 'decision')}; the mask {does}{end}"
    figures = f"it {does} showings{_confident(getattr(held.lower, what))}"
    if what == "complete" and not held.holds:
        figures += f", sufficient in {counts.sufficient} and necessary in {counts.necessary}"
    verdict = "holds" if held.holds else "does not hold"
    return f"the mask {verdict} {at}: {figures}{_breaking(held, what)}{end}"


def short_sentence(held: Precision) -> str:
    """The same in a few words, without what breaks it.

    >>> tally = lambda *figures: Tally(*np.array(figures))
    >>> print(short_sentence(Precision(tally(196, 199, 197, 200), tally([], [], [], []), 600, False, 200, 0)))
    holds at 0.9: sufficient and necessary in 98% of 200 showings
    """
    what = held.asked
    share = f"{100 * float(getattr(held.estimate, what)):.0f}% of {held.draws} showings"
    if not held.decision_holds and not held.counterfactual:
        kept = f"{100 * float(held.estimate.decision):.0f}%"
        return f"the decision itself does not hold at {held.level:g}: in {kept}; the mask is {_DOES[what]} in {share}"
    return f"{'holds' if held.holds else 'does not hold'} at {held.level:g}: {_DOES[what]} in {share}"


def plain_sentence(held: Precision, met: bool = True) -> str:
    """The same for those who know none of these words; `met`: the mask does what was asked in the picture as it is.

    >>> tally = lambda *figures: Tally(*np.array(figures))
    >>> held = Precision(tally(199, 199, 199, 200), tally([], [], [], []), 600, False, 200, 0)
    >>> print(plain_sentence(held))
    It holds for 99 % of small changes.
    >>> apart = tally([64, 64], [40, 64], [40, 64], [64, 64])
    >>> print(plain_sentence(dataclasses.replace(held, counts_apart=apart, draws_apart=64, names=("shift", "noise"))))
    It holds for 99 % of small changes, but not under shift (62 %) alone.
    >>> print(plain_sentence(dataclasses.replace(held, counts=tally(90, 90, 90, 200), names=("black fill",))))
    It does not hold: it is so for only 45 % of other fills.
    >>> print(plain_sentence(dataclasses.replace(held, counts=tally(184, 184, 184, 200))))
    Whether it holds is open: it is so for 92 % of small changes, too few to be sure of 90 %.
    >>> print(plain_sentence(dataclasses.replace(held, counts=tally(10, 200, 10, 140))))
    The decision itself breaks: for only 70 % of small changes does the whole picture keep its class.
    """
    least, changes = fewest(held.level, held.confidence), _changes(held.names)
    decision, share = (_whole_percent(getattr(held.estimate, what)) for what in ("decision", held.asked))
    if held.draws < least:
        return f"Whether it holds is open: {held.draws} changes were tried, and it takes {least} to tell."
    if held.decision_breaks:
        return f"The decision itself breaks: for only {decision} of {changes} does the whole picture keep its class."
    if not met:
        return f"The mask does what was asked for {share} of {changes}{' all the same' if held.holds else ''}."
    if held.holds:
        broken = [f"{name} ({_whole_percent(count / held.draws_apart)})" for name, count in _misses(held).items()]
        rest = f", but not under {_listed(broken)} alone" if broken else ""
        return f"It holds for {share} of {changes}{rest}."
    if getattr(held.estimate, held.asked) < held.level:
        return f"It does not hold: it is so for only {share} of {changes}."
    sure = _whole_percent(np.asarray(held.level))
    return f"Whether it holds is open: it is so for {share} of {changes}, too few to be sure of {sure}."


def verdict(held: Precision) -> str:
    """Whether a mask holds, in a word or three; open where more showings might yet tell."""
    is_open = held.draws < fewest(held.level, held.confidence) or getattr(held.estimate, held.asked) >= held.level
    return "holds" if held.holds else "may hold" if is_open else "does not hold"


def _changes(names: Sequence[str]) -> str:
    """What the pictures of the showings differ in, by the names of the perturbations."""
    fills = [name for name in names if name.endswith(" fill")]
    if len(fills) < len(names) or not names:
        return "small changes and other fills" if fills else "small changes"
    return "other fills"


def _whole_percent(share: np.ndarray) -> str:
    return f"{math.floor(100 * float(share) + 1e-9)} %"  # rounding up would promise more


_DOES = {"complete": "sufficient and necessary", "sufficient": "sufficient", "necessary": "necessary"}


def _confident(lower: np.ndarray) -> str:
    at_least = math.floor(100 * float(lower)) / 100  # rounding up would promise more
    return f" ({at_least:.2f} or more, with {100 * CONFIDENCE:.0f} % confidence)"


def _misses(held: Precision, what: str | None = None) -> dict[str, Any]:
    """The counts of those perturbations under which, by themselves, a figure certainly does not reach the level."""
    counts = dict(zip(held.names, getattr(held.counts_apart, what or held.asked), strict=True)) if held.names else {}
    few = lambda count: lower_bound(held.draws_apart - count, held.draws_apart) > 1 - held.level
    return {name: count for name, count in counts.items() if few(count)}


def _breaking(held: Precision, what: str) -> str:
    """Under which perturbations by themselves a figure reaches the level, under which not, and where that is open."""
    counts = dict(zip(held.names, getattr(held.counts_apart, what), strict=True))
    reaches = dict(zip(held.names, getattr(held.holds_apart, what), strict=True))
    misses = _misses(held, what)
    numbered = lambda names: _listed([f"{name} ({counts[name]} of {held.draws_apart})" for name in names])
    holds, breaks = (
        _listed([name for name in counts if reaches[name]]),
        numbered(list(misses)),
    )
    open_ = numbered([name for name in counts if not (reaches[name] or name in misses)])
    said = [f"; by itself, it holds under {holds}"] if holds else []
    if breaks:
        said.append(f", not under {breaks}" if holds else f"; it does not hold under {breaks} alone")
    return "".join(said) + (f"; too few showings to tell under {open_} alone" if open_ else "")


def _listed(words: Sequence[str]) -> str:
    """'a, b and c'; nothing of no words."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
