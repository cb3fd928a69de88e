"""The area-confidence front: what confidence masks of every size have reached, over all masks that a search evaluated.

An archive of one slot per bin of area is carried through the generations; it keeps the most confident mask of each bin.
What is left of it in the end are the masks that no smaller one equals.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from evomask.types import Evaluation, Front, Mask, decide, record, static


@record
class Archive:
    """The most confident mask in each of N bins of area; a slot that was never filled has confidence -inf."""

    evaluation: Evaluation  # fields f32[N]
    mask: Mask  # bool[N, H, W]


@record
class Collect:
    """Fills an archive with the masks that keep the class, and where `necessary` is set with those whose inverse loses
    it.

    Bin i of N holds areas from (i / N)^2 to ((i + 1) / N)^2: they are narrow where masks are small.
    """

    bins: int = static(default=40)
    necessary: bool = static(default=False)

    def init(self, shape: tuple[int, int]) -> Archive:
        """An empty archive of masks of H x W pixels."""
        return Archive(Evaluation(*[jnp.full(self.bins, -jnp.inf)] * 7), jnp.zeros((self.bins, *shape), bool))

    def add(self, archive: Archive, masks: Mask, evaluation: Evaluation) -> Archive:
        """The archive after bool[P, H, W] with their evaluation: a slot changes hands where a mask is more confident.

        >>> masks = jnp.array([[[True, False]], [[True, True]]])
        >>> figures = [0.5, 1.0], [0.7, 0.9], [1.0, 1.0], [0.1, 0.1], [-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]
        >>> seen = Evaluation(*map(jnp.array, figures))
        >>> collect = Collect(bins=4)
        >>> collect.add(collect.init((1, 2)), masks, seen).evaluation.confidence
        Array([-inf, -inf,  0.7,  0.9], dtype=float32)
        """
        verdict = decide(evaluation.margin, evaluation.confidence, evaluation.inverse_margin, 0.0)
        counts = verdict.keeps_class & (verdict.loses_class | (not self.necessary))
        slot = jnp.minimum((jnp.sqrt(evaluation.area) * self.bins).astype(jnp.int32), self.bins - 1)
        mine = (slot[None] == jnp.arange(self.bins)[:, None]) & counts[None]
        confidence = jnp.where(mine, evaluation.confidence[None], -jnp.inf)  # f32[N, P]
        best = jnp.argmax(confidence, axis=1)
        better = confidence.max(1) > archive.evaluation.confidence
        kept = jax.tree.map(lambda new, old: jnp.where(better, new[best], old), evaluation, archive.evaluation)
        return Archive(kept, jnp.where(better[:, None, None], masks[best], archive.mask))


def front(archives: Sequence[Archive]) -> Front:
    """The non-dominated masks of the archives of all stages (NumPy, leading axis B), smallest first.

    >>> evaluation = Evaluation(*(np.array([x]) for x in ([0.1, -np.inf, 0.6, 0.9], *[[0.5, -np.inf, 0.4, 0.8]] * 6)))
    >>> front([Archive(evaluation, np.ones((1, 4, 1, 1), bool))]).area.tolist()  # at 0.6 a smaller mask is better
    [[0.1, nan, nan, 0.9]]
    """
    confidence = np.stack([archive.evaluation.confidence for archive in archives])
    stage = np.argmax(confidence, axis=0)[None]
    take = lambda *values: np.take_along_axis(np.stack(values), stage, axis=0)[0]
    seen = jax.tree.map(take, *(archive.evaluation for archive in archives))
    masks = np.stack([archive.mask for archive in archives])
    masks = np.take_along_axis(masks, stage[..., None, None], axis=0)[0]
    best = np.maximum.accumulate(seen.confidence, axis=1)
    before = np.concatenate([np.full_like(best[:, :1], -np.inf), best[:, :-1]], axis=1)
    on = seen.confidence > before
    blank = lambda values: np.where(on, values, np.nan)
    return Front(
        area=blank(seen.area),
        confidence=blank(seen.confidence),
        inverse_confidence=blank(seen.inverse_confidence),
        necessary=on & decide(seen.margin, seen.confidence, seen.inverse_margin, 0.0).necessary,
        mask=masks & on[..., None, None],
    )
