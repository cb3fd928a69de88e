"""The budget: images sent through the classifier, declared before, enforced during and reported after every method.

A method is charged per explained image. Images that only fill up the last micro-batch are not charged: no method
ever sees their outputs. One backward pass is charged like one forward pass, and both are reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.core
import numpy as np

from evomask import settings
from evomask.classifiers.blackbox import completed
from evomask.search.batching import batch_size
from evomask.types import Array, Classifier, InputError, whole


class BudgetExceeded(InputError):
    """A method asked for more evaluations than were declared for it."""


class UnequalBudgets(InputError):
    """Results that were obtained under different budgets are about to be compared."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """Images sent forward through the classifier, and gradients pulled back through it, for one explained image.

    >>> Spent(3) + Spent(1, backward=2)
    Spent(forward=4, backward=2)
    """

    forward: int = 0
    backward: int = 0

    @property
    def total(self) -> int:
        return self.forward + self.backward

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.forward + other.forward, self.backward + other.backward)


class Counted:
    """A classifier with a declared budget per image, and the list of what every explained image has cost.

    Pass it to a baseline where a classifier is expected and read `spent` afterwards.

    >>> from evomask.baselines import CentredSquare
    >>> import jax.numpy as jnp
    >>> from evomask.classifiers import as_classifier
    >>> counted = Counted(as_classifier(lambda images: jnp.zeros((len(images), 2))), budget=10)
    >>> _ = CentredSquare()(counted, jnp.zeros((3, 8, 8, 1)), [0, 1, 0], key=jax.random.key(0), budget=10)
    >>> counted.spent
    [Spent(forward=0, backward=0), Spent(forward=0, backward=0), Spent(forward=0, backward=0)]
    """

    def __init__(self, classifier: Classifier, budget: int):
        self.classifier = settings.single(classifier)
        self.budget = check_budget(budget)
        self.spent: list[Spent] = []

    def charge(self, spent: Spent) -> None:
        """Enter the cost of one more image; BudgetExceeded where it is more than was declared."""
        check_spent(spent, self.budget, "this method")
        self.spent.append(spent)


class Calls(Counted):
    """A classifier that counts the images it is shown, for methods that do not charge what they cost themselves."""

    def __init__(self, classifier: Any, budget: int):
        super().__init__(classifier, budget)
        self.called = 0

    def __call__(self, images: Array) -> Array:
        if isinstance(images, jax.core.Tracer):
            raise InputError(
                "the method calls the classifier inside jax.jit, vmap or grad, where calls cannot be counted: "
                "call it from plain Python, or declare its cost, as the methods of evomask.baselines do"
            )
        self.called += len(images)
        check_spent(Spent(self.called), self.budget, "this method")
        return self.classifier(images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["classifier"], name)

    def bill(self, num: int) -> list[Spent]:
        """What each of `num` images cost."""
        return self.spent or [Spent(-(-self.called // num))] * num


class Account:
    """Counted predictions for a method that runs on the host, for one image: a function of NumPy arrays.

    `account(images f32[N, H, W, C]) -> probabilities f32[N, K]`. The classifier is always called with full
    micro-batches, so that it is compiled once.

    Raises:
      BudgetExceeded: before the classifier is called, if the call would spend more than `budget`.
      InputError: the classifier returned NaN or infinity.

    >>> import jax.numpy as jnp
    >>> from evomask.classifiers import as_classifier
    >>> account = Account(as_classifier(lambda images: jnp.zeros((len(images), 2))), budget=5)
    >>> account(np.zeros((3, 4, 4, 1), np.float32)).tolist()
    [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    >>> account(np.zeros((3, 4, 4, 1), np.float32))
    Traceback (most recent call last):
    ...
    evomask.measures.budget.BudgetExceeded: this method needs 6 evaluations per image (6 forward, 0 backward), more
    than...
    """

    def __init__(self, classifier: Classifier, budget: int):
        self._classifier = bare(classifier)
        self.batch_size = batch_size(self._classifier)
        self.budget = check_budget(budget)
        self.spent = Spent()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        images = np.asarray(images, np.float32)
        after = self.spent + Spent(len(images))
        check_spent(after, self.budget, "this method")
        self.spent = after
        padded = np.pad(images, [(0, -len(images) % self.batch_size)] + [(0, 0)] * (images.ndim - 1))
        batches = np.split(padded, len(padded) // self.batch_size)
        found = np.concatenate([completed(_probabilities, self._classifier, batch) for batch in batches])[: len(images)]
        if not np.isfinite(found).all():
            raise InputError(
                "the classifier returned NaN or infinite logits for a masked image; a host-side method "
                "cannot rank pixels by them: check the classifier's weights and its input range"
            )
        return found


def bare(classifier: Classifier | Counted) -> Classifier:
    """The classifier itself, without its counter."""
    return classifier.classifier if isinstance(classifier, Counted) else classifier


def charge(classifier: Classifier | Counted, spent: Spent) -> None:
    """Enter the cost of one image, if anybody counts."""
    if isinstance(classifier, Counted):
        classifier.charge(spent)


def check_budget(budget: int) -> int:
    """A positive int, or InputError."""
    return whole("budget", budget)


def check_spent(spent: Spent, budget: int, name: str) -> None:
    """BudgetExceeded, naming the method, where the cost of one image is over the budget."""
    if spent.total > budget:
        raise BudgetExceeded(
            f"{name} needs {spent.total} evaluations per image ({spent.forward} forward, {spent.backward} backward), "
            f"more than the budget of {budget}: raise the budget or lower the number of steps"
        )


@dataclasses.dataclass(frozen=True)
class Bill:
    """What one method was allowed per image, and what its images have cost."""

    method: str
    budget: int
    spent: Sequence[Spent]


def common_budget(bills: Iterable[Bill]) -> int:
    """The one budget under which all the methods ran; every table calls this first.

    Raises:
      UnequalBudgets: the declared budgets differ, or a method has spent more than it declared, or there is no bill.

    >>> common_budget([Bill("rise", 100, [Spent(100)]), Bill("gradcam", 100, [Spent(2, 1)])])
    100
    >>> common_budget([Bill("rise", 100, [Spent(100)]), Bill("lime", 200, [Spent(200)])])
    Traceback (most recent call last):
    ...
    evomask.measures.budget.UnequalBudgets: methods ran under different budgets: rise 100, lime 200...
    """
    bills = list(bills)
    if not bills:
        raise UnequalBudgets("no method to compare: give at least one bill")
    if len({bill.budget for bill in bills}) > 1:
        listed = ", ".join(f"{bill.method} {bill.budget}" for bill in bills)
        raise UnequalBudgets(f"methods ran under different budgets: {listed}; run them again under one budget")
    for bill in bills:
        worst = max((spent.total for spent in bill.spent), default=0)
        if worst > bill.budget:
            raise UnequalBudgets(f"{bill.method} spent {worst} evaluations on an image, its budget is {bill.budget}")
    return bills[0].budget


@jax.jit
def _probabilities(classifier: Classifier, images: Array) -> Array:
    return jax.nn.softmax(classifier(images), axis=-1)
