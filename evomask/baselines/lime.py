"""LIME through the `lime` package (extra `baselines`), with the fill and the budget of every other method."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import jax
import numpy as np

from evomask.baselines.base import on_host
from evomask.fills import Constant
from evomask.measures.budget import Account, Spent
from evomask.types import Key, record, static


@record
class LIME:
    """LIME (Ribeiro et al. 2016), `lime.lime_image`: the ridge coefficient of a segment is the score of its pixels.

    num_samples = budget, the first of which is the whole image. From 64 pixels on the segmentation is the package's
    default (quickshift, kernel_size 4, max_dist 200, ratio 0.2), which returns one to three segments of a 32 x 32
    image; below, or with `segments` given, it is SLIC (compactness 10) with about that many segments, 64 by
    default (43 to 62 on the 20 CIFAR-10 images of the `foolbox` package), or a grid of as many where SLIC finds
    fewer than half, as on an image of one colour. LIME perturbs an image of ones hidden by zeros, and the fill is
    put in its place before the classifier sees it, so that any fill can be used; the weights of the samples do not
    depend on the pixels. Deterministic for a key; range (-inf, inf).
    """

    segments: int | None = static(default=None)
    fill: Callable = Constant()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=budget)

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        from lime import lime_image

        fill_key, seed_key = jax.random.split(key)
        blank = np.asarray(self.fill(fill_key, image))
        segments = segment(np.asarray(image), self.segments)
        explainer = lime_image.LimeImageExplainer(random_state=int(jax.random.randint(seed_key, (), 0, 2**31 - 1)))
        # The package shows a progress bar per image and has no switch for it.
        with mock.patch.object(lime_image, "tqdm", iter):
            found = explainer.explain_instance(
                np.ones((*image.shape[:2], 3), np.float32),
                lambda shown: predict(np.where(shown[..., :1] > 0, image[None], blank[None])),
                labels=(label,),
                top_labels=None,
                hide_color=0,
                num_samples=budget,
                batch_size=predict.batch_size,
                segmentation_fn=lambda _: segments,
                random_seed=0,  # of the segmentation, which is already there
            )
        coefficients = np.zeros(segments.max() + 1, np.float32)
        for number, coefficient in found.local_exp[label]:
            coefficients[number] = coefficient
        return coefficients[segments]


def segment(image: np.ndarray, segments: int | None) -> np.ndarray:
    """f32[H, W, C] -> int[H, W], numbered from 0 without gaps: see `LIME` for the choice of the algorithm."""
    if segments is None and min(image.shape[:2]) >= 64:
        from lime.wrappers.scikit_image import SegmentationAlgorithm

        rgb = np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[-1] == 1 else image
        found = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=0)(rgb)
    else:
        from skimage.segmentation import slic

        wanted = segments or 64
        found = slic(image, n_segments=wanted, compactness=10.0, start_label=0, channel_axis=-1)
        if 2 * (found.max() + 1) < wanted:  # slic joins segments of one colour into one
            cells = max(round(wanted**0.5), 1)
            row, col = (np.arange(side) * cells // side for side in image.shape[:2])
            found = row[:, None] * cells + col[None, :]
    return np.unique(found, return_inverse=True)[1].reshape(image.shape[:2])
