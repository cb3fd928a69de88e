"""KernelSHAP on superpixels through the `shap` package (extra `baselines`): Shapley values of regions."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from evomask.baselines.base import on_host
from evomask.baselines.lime import segment
from evomask.baselines.shap import global_seed, package
from evomask.fills import Constant
from evomask.measures.budget import Account, Spent
from evomask.types import Key, record, static


@record
class KernelSHAP:
    """KernelSHAP (Lundberg & Lee 2017), `shap.KernelExplainer`, of SLIC's superpixels; range (-inf, inf).

    The score of a pixel is the Shapley value of its segment, estimated for the label's probability from sets of
    segments that are drawn by the Shapley kernel's weights and fitted by weighted least squares, without the
    package's choice of ten features. There are about 64 segments, and fewer than a quarter of the budget, for least
    squares need more sets than segments. The sets are budget - 2, for the whole and the blank image are asked as well;
    where fewer sets than that exist, all of them. Deterministic for a key.
    """

    segments: int = static(default=64)
    fill: Callable = Constant()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=max(budget, 4))

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        fill_key, seed_key = jax.random.split(key)
        blank = np.asarray(self.fill(fill_key, image))
        segments = segment(np.asarray(image), max(min(self.segments, budget // 4), 1))
        num = int(segments.max()) + 1

        def says(shown: np.ndarray) -> np.ndarray:  # f64[N, segments] -> f32[N], in parts, for a picture is large
            parts = np.split(shown, range(predict.batch_size, len(shown), predict.batch_size))
            masks = [(part > 0)[:, segments][..., None] for part in parts]
            return np.concatenate([predict(np.where(mask, image[None], blank[None]))[:, label] for mask in masks])

        if num == 1:
            return np.full(segments.shape, np.subtract(*says(np.array([[1.0], [0.0]]))))
        with global_seed(seed_key):
            explainer = package().KernelExplainer(says, np.zeros((1, num)))
            values = explainer.shap_values(np.ones((1, num)), nsamples=budget - 2, l1_reg=0, silent=True)
        return np.asarray(values)[0][segments]
