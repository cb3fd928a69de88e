"""The configuration of `explain`: one record of stages, operators, fitness, fill and scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evomask import fills
from evomask.fills import Fill
from evomask.search import batching, scoring
from evomask.search.evolve import Operators
from evomask.search.fitness import Fitness
from evomask.search.front import Collect
from evomask.search.refine import Stage
from evomask.types import RATIO, Array, Classifier, record, static


@record
class Config:
    """Everything that decides what `explain` does, besides the classifier, the images and the key.

    Floats are leaves: changing them does not compile again. See `evomask.presets` for the recipes.
    """

    stages: tuple[Stage, ...]
    operators: Operators
    fitness: Fitness
    fill: Fill | tuple[Fill, ...] = fills.Constant()  # several: a mask must hold under each of them
    scoring: Callable[..., Array] = scoring.BestOfGeneration()
    confidence_ratio: float = RATIO  # of the whole image's confidence, that a sufficient mask keeps
    front: Collect | None = None  # collects the area-confidence front; None: no
    score_inside_only: bool = static(False)  # see `scoring.normalize`
    batch_size: int | None = static(None)  # images in one call of the classifier; None: what the classifier prefers
    together: int = static(1)  # images explained whose searches run side by side, as one batch; see `explain`

    @property
    def evaluations(self) -> int:
        """Images that the search sends through the classifier, for each image explained."""
        return sum(stage.rounds * self.generation_cost(stage) for stage in self.stages)

    def generation_cost(self, stage: Stage) -> int:
        """Evaluations of one generation of a stage."""
        return len(self.fills) * sum(self.passes(stage))

    def passes(self, stage: Stage) -> tuple[int, ...]:
        """Images in each forward pass of one generation, under each fill: masks and inverses, together or in turn."""
        inverses = stage.num_inverses if self.fitness.needs_inverse else 0
        in_turn = inverses and stage.inverses is not None
        return (stage.num_offspring, inverses) if in_turn else (stage.num_offspring + inverses,)

    @property
    def fills(self) -> tuple[Fill, ...]:
        """The one fill, or the several."""
        return self.fill if isinstance(self.fill, tuple) else (self.fill,)

    def needs(self, classifier: Classifier) -> dict[str, Any]:
        """What `evaluate` has to be told: whether to look at inverse-masked images and at features, and the batch size."""
        fitness = self.fitness
        return {
            "inverse": fitness.needs_inverse,
            "features": fitness.needs_features,
            "batch_size": self.batch_size_for(classifier),
        }

    def batch_size_for(self, classifier: Classifier) -> int:
        """The most images in one call of the classifier."""
        return self.batch_size or batching.batch_size(classifier)
