"""D-RISE: random smooth masks, weighted by how much a detector's best box under each is like the one explained."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.baselines.base import compiled
from evomask.baselines.rise import weighted_masks
from evomask.classifiers.decided import Decided
from evomask.decisions.places import Box, detections
from evomask.fills import Constant
from evomask.measures.budget import Spent
from evomask.search.batching import batch_size
from evomask.types import Array, Classifier, InputError, Key, record, static


@record
class DRISE:
    """D-RISE (Petsiuk et al. 2021, eq. 2 to 5) of a `Box` decision: sum_i s(mask_i) mask_i / (N keep).

    s is the greatest, over the boxes found under the mask, of intersection over union with the box explained, times the
    cosine of the two vectors of class probabilities, times the box's own greatest probability, for its objectness. The
    paper's grid is 16 x 16. One evaluation is for the whole image, whose box has the vector that is compared with: N is
    the budget less one.

    Raises (where it is called):
      InputError: the classifier is no detector with a decision on one of its boxes.

    >>> import evomask
    >>> boxes = jnp.array([[0.0, 0, 8, 8], [8, 8, 16, 16]])
    >>> shine = lambda x: jnp.stack([x[:, :8, :8].mean((1, 2)), x[:, 8:, 8:].mean((1, 2))], 1)  # two boxes, one class
    >>> detector = evomask.as_classifier(lambda x: {"boxes": jnp.tile(boxes, (len(x), 1, 1)), "scores": shine(x)})
    >>> there = evomask.decisions.decided(detector, Box((0, 0, 8, 8)))
    >>> score = DRISE(grid=4)(there, jnp.ones((1, 16, 16, 1)), [0], key=0, budget=200)[0]
    >>> bool(score[:8, :8].mean() > 1.05 * score[8:, 8:].mean())
    True
    """

    keep: float = 0.5
    grid: int = static(default=16)
    fill: Callable = Constant()

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=budget)

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        if not isinstance(classifier, Decided) or not isinstance(classifier.decision, Box):
            raise InputError(
                f"D-RISE got a classifier {type(classifier).__name__}: give a detector with a box to explain, "
                "decided(network, decisions.Box(box, label))"
            )
        network, there = classifier.network, classifier.decision
        boxes, scores = detections(there, network(image[None]))
        at_place = jnp.where(there.shared(boxes)[0] >= there.overlap, jnp.take(scores[0], there.label, axis=1), -1.0)
        wanted = scores[0, jnp.argmax(at_place)]

        def alike(images: Array) -> Array:
            boxes, scores = detections(there, network(images))
            lengths = jnp.linalg.norm(scores, axis=2) * jnp.linalg.norm(wanted)
            cosine = scores @ wanted / jnp.maximum(lengths, 1e-9)
            return jnp.max(there.shared(boxes) * cosine * scores.max(2), axis=1)

        fill_key, grid_key, shift_key = jax.random.split(key, 3)
        blank, num = self.fill(fill_key, image), budget - 1
        size = min(batch_size(classifier), num)
        return weighted_masks((grid_key, shift_key), alike, image, blank, num, self.keep, self.grid, size)
