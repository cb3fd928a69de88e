"""Several explanations of one decision: masks that stay clear of each other, found one after the other (niching).

What can be demanded of the later ones depends on how strictly they are kept apart. Where overlap only costs, each mask
is to be complete like the first. Where it is forbidden, that may be too much to ask: the inverse of a second mask still
shows all of the first, which is sufficient by itself. Disjoint later masks are therefore to be sufficient, and being
necessary is a wish with a weight; status and verdicts say which of them are necessary all the same.

And where the first mask is necessary, what it leaves is no longer the class, so that for a classifier whose evidence
adds up no part of the rest is: a decision with several such reasons has no small necessary one. (Networks do not add
up, and often have disjoint complete masks.) `demand="sufficient"` asks for reasons that suffice, `demand="necessary"`
for parts that the decision cannot do without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from evomask import presets, validate
from evomask.decisions import Decision, decided
from evomask.explaining import Progress, concluded, pose, search
from evomask.measures import agreement, metrics
from evomask.search.config import Config
from evomask.settings import pinned
from evomask.types import Classifier, Explanation, InputError, Key, Niche, Question, check_demand, record, static, whole


@record
class Several:
    """N masks of every image, in the order in which they were found; NumPy arrays."""

    explanations: tuple[Explanation, ...]  # N of them, each of B images
    iou: np.ndarray  # f32[B, N, N], intersection over union of every two masks; an empty union counts as 1
    shared: np.ndarray  # f32[B, N], which part of each mask lies in earlier ones; 0 where the mask is empty
    demanded: tuple[str, ...] = static()  # of each mask: "complete", "sufficient" or "necessary"

    @property
    def least_shared(self) -> np.ndarray:
        """f32[B], the least IoU of two masks that both hold (see `Explanation.holds`); 1 where there are no two."""
        return agreement.least_shared(self.iou, np.stack([one.holds for one in self.explanations], axis=-1))

    @property
    def several_reasons(self) -> np.ndarray:
        """bool[B], whether two masks that both hold share so little that there are several."""
        return agreement.are_several(self.least_shared)


def sentence(found: Several) -> str | None:
    """Where the masks of one image (no batch axis) are several reasons, that in words."""
    return agreement.sentence(found.least_shared) if found.several_reasons else None


@pinned
def several(
    classifier: Classifier,
    images: Any,
    num: int,
    *,
    key: Key,
    labels: Any = None,
    contrast: Any = None,
    decision: Decision | None = None,
    config: Config | None = None,
    demand: str | None = None,
    disjoint: bool = False,
    weight: float = 1.0,
    wish: float = 0.02,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Several:
    """Explains one decision `num` times: each search keeps clear of the masks that were found before it.

    Every search costs `config.evaluations`. The first mask is that of `explain`, bit for bit; the others draw from keys
    of their own, and everything is compiled twice at most, whatever `num` is.

    Args:
      classifier, images, key, labels, contrast, decision, config, mesh, progress: as for `explain`.
      num: how many masks, from 1.
      demand: what is asked of each mask, "complete", "sufficient" or "necessary"; None: what the configuration says.
      disjoint: True forbids the pixels of earlier masks; of the later ones only sufficiency is then demanded where all
        were to be complete, see above.
      weight: otherwise, what a pixel of an earlier mask costs beyond its own area: at 1 it counts twice. The areas and
        fitness in the history of a later mask count so too.
      wish: for these later ones, the area that one nat towards necessity is worth, as a fraction of the image.

    Raises:
      InputError: as `explain`; or `num`, `demand`, `weight` or `wish` is none of these.

    >>> import jax.numpy as jnp
    >>> import evomask
    >>> either = lambda x: 20 * jnp.stack([x[:, :, :3].mean((1, 2, 3)), x[:, :, 5:].mean((1, 2, 3))]).max(0)
    >>> classifier = evomask.as_classifier(lambda x: jnp.stack([jnp.full(len(x), 10.0), either(x)], axis=-1))
    >>> options = {"config": evomask.presets.smallest(500), "demand": "sufficient", "disjoint": True}
    >>> found = several(classifier, np.ones((1, 8, 8, 1)), 2, key=jax.random.key(0), **options)
    >>> found.demanded, float(found.shared[0, 1]), [bool(one.sufficient[0]) for one in found.explanations]
    (('sufficient', 'sufficient'), 0.0, [True, True])
    """
    num = whole("num", num)
    if weight < 0 or wish < 0:
        raise InputError(f"weight is {weight} and wish is {wish}: give numbers from 0")
    config = presets.evomask() if config is None else config
    config = config if demand is None else dataclasses.replace(config, demand=check_demand(demand))
    asked = {"key": validate.as_key(key), "config": config, "mesh": mesh}
    classifier = decided(classifier, decision)
    questions = pose(classifier, images, labels, contrast, **asked)
    options = {"disjoint": disjoint, "weight": weight, "wish": wish, "progress": progress}
    return several_of(classifier, questions, num, **asked, **options)


@pinned
def several_of(
    classifier: Classifier,
    questions: Sequence[Question],
    num: int,
    *,
    key: Key,
    config: Config,
    disjoint: bool = False,
    weight: float = 1.0,
    wish: float = 0.02,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Several:
    """`several` of questions that were posed before by `questions.ask`, see `explaining.explain_questions`."""
    softens = disjoint and config.demand == "complete"
    later = dataclasses.replace(config, demand="sufficient", wish=wish) if softens else config
    taken, found = np.zeros((len(questions), *questions[0].image.shape[:2]), bool), []
    total = (config.evolving + (num - 1) * later.evolving) * len(questions)
    for index in range(num):
        region, asked = np.where(disjoint, ~taken, True), later if index else config
        niche = Niche(region, taken, np.full(len(questions), 0 if disjoint else weight, np.float32)) if index else None
        key_search = jax.random.fold_in(key, index) if index else key
        before = (config.evolving + (index - 1) * later.evolving) * len(questions) if index else 0
        told = None if progress is None else lambda done, before=before: progress(before + done, total)
        refined = search(classifier, key_search, asked, questions, told, niche, mesh)
        # Where nothing is left, the search takes the whole image for its region.
        refined = dataclasses.replace(refined, masks=refined.masks & region[:, None])
        found.append(concluded(classifier, questions, refined, key, asked, region))
        taken = taken | found[-1].mask
    overlap = overlaps(np.stack([one.mask for one in found], axis=1))
    return Several(tuple(found), *overlap, tuple(one.demand for one in found))


def overlaps(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool[B, N, H, W] -> intersection over union f32[B, N, N], and the part of each mask that lies in earlier ones,
    f32[B, N].

    >>> iou, shared = overlaps(np.array([[[[True, True, False]], [[False, True, True]]]]))
    >>> round(float(iou[0, 0, 1]), 3), shared.tolist()
    (0.333, [[0.0, 0.5]])
    """
    iou = np.asarray(metrics.iou(masks[:, :, None], masks[:, None]), np.float32)
    before = np.cumsum(masks, axis=1) > masks
    shared = (masks & before).sum((2, 3)) / np.maximum(masks.sum((2, 3)), 1)
    return iou, shared.astype(np.float32)
