"""The recipe: every number that decides the weights, and the optimizer that it describes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from evomask.types import InputError

Params = Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every hyper-parameter of a training run; the numbers that decide the weights, next to the data and the model."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"  # sgd (Nesterov), adamw, or muon: Muon for hidden kernels (`is_hidden`), sgd for the rest
    learning_rate: float = 0.15  # the peak, reached after the warm-up
    warmup: float = 0.2  # fraction of all steps with a linearly rising rate; a cosine to zero follows
    momentum: float = 0.9
    bias_rate: float = (
        1.0  # biases of normalisations learn so many times faster (Jordan 2024, arXiv:2404.00498, uses 64)
    )
    weight_decay: float = 5e-4  # of weights with two or more axes
    kernel_rate: float = 0.05  # with muon, the peak for these
    kernel_decay: float = 0.02  # with muon, the weight decay of these
    label_smoothing: float = 0.1
    average: float = 0.995  # decay of the exponential average of the weights that is evaluated and exported
    pad: int = 2  # crops move by up to so many pixels; the border is filled by reflection
    flip: bool = True  # left-right, every image in every second epoch
    erase: float = 0.0  # probability that one rectangle of an image is erased
    erase_area: tuple[float, float] = (0.02, 0.5)  # its share of the image
    erase_black: float = 0.5  # probability that it becomes black; otherwise one random colour or noise
    mixup: float = 0.0  # each image is mixed with another one, by a share from Beta(mixup, mixup); 0: never
    frozen_epochs: int = 0  # so many epochs at the start train the head only
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "erase_area", tuple(self.erase_area))
        fractions = ("warmup", "label_smoothing", "average", "erase", "erase_black", "momentum")
        wrong = [name for name in fractions if not 0 <= getattr(self, name) <= 1]
        if wrong:
            raise InputError(f"recipe.{wrong[0]} is {getattr(self, wrong[0])}: give a number from 0 to 1")
        rates = ("learning_rate", "kernel_rate", "bias_rate", "weight_decay", "kernel_decay")
        wrong = [name for name in rates if not 0 <= getattr(self, name) < math.inf]
        if wrong:
            raise InputError(f"recipe.{wrong[0]} is {getattr(self, wrong[0])}: give a number of 0 or more")
        if self.pad < 0 or not 0 <= self.erase_area[0] <= self.erase_area[1] <= 1:
            raise InputError(
                f"recipe.pad is {self.pad}, recipe.erase_area {self.erase_area}: give 0 pixels or more, "
                "and two fractions of the image, the smaller first"
            )
        if self.mixup < 0:
            raise InputError(f"recipe.mixup is {self.mixup}: give 0 (never) or a positive number, such as 0.3")
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(
                f"recipe has {self.epochs} epochs and batches of {self.batch_size}: both must be at least 1"
            )
        if self.optimizer not in ("sgd", "adamw", "muon"):
            raise InputError(f"recipe.optimizer is {self.optimizer!r}: choose sgd, adamw or muon")
        if not 0 <= self.frozen_epochs <= self.epochs:
            raise InputError(f"recipe.frozen_epochs is {self.frozen_epochs}: give 0 .. {self.epochs} (recipe.epochs)")


def make_optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Linear warm-up, cosine to zero; weight decay on weights with two or more axes only.

    Muon (Jordan et al. 2024; `optax.contrib`) makes the update of a kernel orthogonal, seen as a matrix from its inputs
    to its outputs, with three Newton-Schulz steps.
    """
    warmup = round(recipe.warmup * steps)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps)
    rate = lambda peak: (
        lambda count: peak * schedule(count.astype(jnp.float32))
    )  # integers divided: an error under strict promotion
    decayed = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    faster = optax.masked(optax.scale(recipe.bias_rate), norm_biases)
    if recipe.optimizer == "adamw":
        adamw = optax.adamw(rate(recipe.learning_rate), weight_decay=recipe.weight_decay, mask=decayed)
        return optax.chain(any_dtypes(adamw), faster)
    sgd = optax.chain(
        optax.add_decayed_weights(recipe.weight_decay, decayed),
        optax.sgd(rate(recipe.learning_rate), recipe.momentum, nesterov=True),
        faster,
    )
    if recipe.optimizer == "sgd":
        return sgd
    matrix = lambda p: optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1)
    as_matrix = lambda params: jax.tree.map(matrix, params)
    muon = optax.chain(
        any_dtypes(optax.contrib.scale_by_muon(beta=recipe.momentum, ns_steps=3, weight_dimension_numbers=as_matrix)),
        optax.add_decayed_weights(recipe.kernel_decay),
        optax.scale_by_learning_rate(rate(recipe.kernel_rate)),
    )
    kinds = lambda params: jax.tree.map_with_path(lambda path, p: "muon" if is_hidden(path, p) else "sgd", params)
    return optax.partition({"muon": muon, "sgd": sgd}, kinds)


def is_hidden(path: tuple, weight: Any) -> bool:
    """Whether a weight is a kernel that Muon is for: of a convolution, or of a dense layer in a transformer's block."""
    return weight.ndim == 4 or (weight.ndim == 2 and "blocks_" in jax.tree_util.keystr(path))


def any_dtypes(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same, also where dtype promotion is strict: Adam and Muon raise a float to an integer power."""

    def update(*args):
        with jax.numpy_dtype_promotion("standard"):
            return transform.update(*args)

    return optax.GradientTransformation(transform.init, update)


def norm_biases(params: Params) -> Params:
    """bool for each weight: is it the bias of a batch normalisation?"""
    return jax.tree.map_with_path(lambda path, _: "BatchNorm" in jax.tree_util.keystr(path), params)
