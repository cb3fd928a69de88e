"""Grad-CAM and Grad-CAM++: feature maps weighted by the gradient of the label's logit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.baselines.base import compiled, upsample
from evomask.measures.budget import Spent, bare
from evomask.types import Array, Classifier, InputError, Key, record, static


def _with_features(method, classifier, images, labels, *, key, budget):
    missing = [name for name in ("features", "from_features") if not hasattr(bare(classifier), name)]
    if missing:
        raise InputError(
            f"{type(method).__name__} needs a classifier with features(images) -> tuple of f32[N, h, w, c] and "
            f"from_features(depth, feature) -> logits; this one has no {' and no '.join(missing)}: use a method that "
            "needs no gradients (RISE, HSIC, occlusion) or add them"
        )
    return compiled(method, classifier, images, labels, key=key, budget=budget)


@record
class GradCAM:
    """Grad-CAM (Selvaraju et al. 2017, eq. 1-2): relu(sum_c mean(dy/dA_c) A_c), bilinearly enlarged; range [0, inf).

    y is the label's logit and A the feature map `features(images)[depth]`; by default the deepest one with more
    than one pixel, for a map of 1 x 1 says nothing about places. Costs two forward passes (the second from the
    feature map on) and one backward pass. A map without positive evidence is zero everywhere.
    """

    depth: int | None = static(default=None)

    __call__ = _with_features

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=2, backward=1)

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        feature, gradient = feature_and_gradient(classifier, image, label, self.depth)
        weights = gradient.mean((0, 1))
        return upsample(jax.nn.relu(feature @ weights), *image.shape[:2])


@record
class GradCAMPlusPlus:
    """Grad-CAM++ (Chattopadhay et al. 2018, eq. 19): the gradient is averaged with a weight for every pixel.

    The weight is alpha = g^2 / (2 g^2 + g^3 sum(A)), zero where the gradient g is zero, and only positive gradients
    count. `depth` and cost as for `GradCAM`; range [0, inf).
    """

    depth: int | None = static(default=None)

    __call__ = _with_features
    cost = GradCAM.cost

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        feature, gradient = feature_and_gradient(classifier, image, label, self.depth)
        total = feature.sum((0, 1), keepdims=True)
        denominator = 2.0 * gradient**2 + total * gradient**3
        alpha = jnp.where(gradient == 0, 0.0, gradient**2 / (denominator + 1e-6))
        weights = (alpha * jax.nn.relu(gradient)).sum((0, 1))
        return upsample(jax.nn.relu(feature @ weights), *image.shape[:2])


def feature_and_gradient(classifier: Classifier, image: Array, label: Array, depth: int | None) -> tuple[Array, Array]:
    """The feature map f32[h, w, c] at that depth, and the gradient of the label's logit with respect to it."""
    features = classifier.features(image[None])  # pyright: ignore[reportAttributeAccessIssue]
    shapes = [feature.shape[1:] for feature in features]
    if depth is None:
        wide = [i for i, (height, width, _) in enumerate(shapes) if height * width > 1]
        if not wide:
            raise InputError(
                f"every feature map of the classifier is 1 x 1 ({shapes}), so no place can be told from "
                "another: let features() return an earlier map as well"
            )
        depth = wide[-1]
    elif not -len(shapes) <= depth < len(shapes):
        raise InputError(f"depth {depth} does not exist: the classifier has {len(shapes)} feature maps")
    depth %= len(shapes)
    resume = classifier.from_features  # pyright: ignore[reportAttributeAccessIssue]
    gradient = jax.grad(lambda feature: resume(depth, feature)[0, label])(features[depth])
    return features[depth][0], gradient[0]
