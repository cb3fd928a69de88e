"""What a decision is, and the classifier that a network becomes with it."""

from __future__ import annotations

from typing import Any, Protocol

from evomask.classifiers.decided import Decided, Unseen
from evomask.data.classes import as_names
from evomask.decisions.numbers import Classes
from evomask.types import Array, Classifier, InputError


class Decision(Protocol):
    """From outputs of a network to logits of alternatives. A record, so that its numbers are arguments of programs.

    It may have `bind(labels)`, which returns the decision with the classes that it names by number, and checks it.
    """

    def __call__(self, outputs: Any) -> Array:
        """Outputs for N images, whatever the network returns -> logits f32[N, K] of K alternatives, 2 or more."""
        ...

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """What the K alternatives are called, given the names of the network's classes; None where nobody knows."""
        ...


def decided(network: Any, decision: Decision | None) -> Classifier:
    """The classifier that tells the alternatives of a decision apart; the network itself where there is none.

    What `explain(network, images, decision=...)` explains, for everything else that takes a classifier: `certify`,
    `precision`, baselines, metrics.

    Args:
      network: images f32[N, H, W, C] in [0, 1] -> outputs that the decision takes; see `as_classifier`, `BlackBox`.
      decision: one of this module's, or one's own.

    Raises:
      InputError: the decision is none, names a class that there is not, or has a number that it cannot have.

    >>> import evomask
    >>> from evomask.decisions import Label
    >>> network = evomask.as_classifier(lambda images: images.mean((1, 2)), labels=("fog", "snow", "rain"))
    >>> decided(network, Label("snow")).labels
    ('snow', 'no snow')
    """
    if decision is None or isinstance(decision, Classes):
        return network
    if isinstance(decision, type) or not callable(decision) or not hasattr(decision, "alternatives"):
        raise InputError(
            f"decision is {decision!r}: give one of evomask.decisions, such as Label(0), or a record of your own with "
            "__call__(outputs) and alternatives(labels)"
        )
    labels = getattr(network, "labels", None)
    decision = decision.bind(labels) if hasattr(decision, "bind") else decision  # pyright: ignore
    names = decision.alternatives(labels)
    return Decided(network, decision, Unseen(None if names is None else as_names(names)))
