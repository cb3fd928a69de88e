"""A network together with the decision that is explained of it."""

from __future__ import annotations

from typing import Any

from evomask.types import Array, handed_on, record, static


class Unseen:
    """Holds a value that no program sees: equal to any other one, so that another value compiles nothing again."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unseen)

    def __hash__(self) -> int:
        return 0


@record
class Decided:
    """A network with the decision that is explained of it: a `Classifier`; see `evomask.decisions.decided`."""

    network: Any
    decision: Any
    names: Unseen = static(default=Unseen(None))  # of the alternatives

    def __call__(self, images: Array) -> Array:
        return self.decision(self.network(images))

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What the alternatives are called."""
        return self.names.value

    def __getattr__(self, name: str) -> Any:
        """What else a classifier may have is the network's."""
        return handed_on(self, self.network, name, ("image_shape", "batch_size", "crop", "features"))
