"""Whether a heat map tells what the network does: more metrics of heat maps and the classifier, beside `metrics`.

Conventions are those of `evomask.measures.metrics`: scores f32[B, H, W], results f32[B], NaN for a map that is not
finite, equal scores in the mean of a few random orders, the softmax probability of the explained label.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from evomask import settings, validate
from evomask.classifiers.blackbox import completed
from evomask.measures.budget import Counted, bare
from evomask.measures.maps import nan_unless_finite, rank_correlation
from evomask.measures.metrics import (
    Curves,
    deletion_curves,
    drops,
    mean_area,
    mu_fidelity,
    orders,
    random_subsets,
    shuffled,
)
from evomask.measures.thresholding import in_every_order
from evomask.prng import unrolled
from evomask.search.batching import batch_size
from evomask.settings import pinned
from evomask.types import Array, Classifier, InputError, Key, Mask, whole

PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
SIZES = (0.05, 0.1, 0.2, 0.4, 0.8)  # of the cells, in `sensitivity_n`
NOISE = 0.01  # standard deviation, of values in [0, 1]
WEIGHTS = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]], np.float32) / 12  # of a pixel's neighbours


# ------------------------------------------------------------------------------------------------------------- ROAD


@pinned
def road(
    classifier: Classifier | Counted,
    images: Array,
    labels: Array,
    scores: Array,
    *,
    key: Key | int,
    percentiles: Sequence[int] = PERCENTILES,
    noise: float = NOISE,
) -> Array:
    """ROAD, remove and debias (Rong et al. 2022): what is lost with the worst pixels against what with the best.

    The best p % of the pixels are removed (most relevant first, MoRF), and the worst p % (LeRF); what is missing is
    filled in from its neighbours (`imputed`), so that neither the fill nor the removed pixels' shape gives the class
    away. (P[LeRF] - P[MoRF]) / 2, in the mean over `percentiles`; range [-0.5, 0.5], larger is better. As
    `ROADCombined` of pytorch-grad-cam. Costs two evaluations for each percentile.

    Raises:
      InputError: the shapes do not belong together, a label is no class, or a percentile is not from 1 to 99.
    """
    if not percentiles or any(not 1 <= percentile <= 99 for percentile in percentiles):
        raise InputError(f"percentiles are {list(percentiles)}: give some from 1 to 99, such as {PERCENTILES}")
    plain, key = bare(classifier), validate.as_key(key)
    images, labels, scores, _ = validate.measured(plain, images, labels, images, scores=scores)
    size = scores[0].size
    pixels = tuple(min(max(round(percentile * size / 100), 1), size - 1) for percentile in percentiles)
    return completed(_road, plain, images, labels, scores, key, jnp.float32(noise), pixels, orders(scores))


@functools.partial(jax.jit, static_argnames=("pixels", "orders"))
def _road(classifier, images, labels, scores, key, noise, pixels: tuple[int, ...], orders: int) -> Array:
    def one(item):
        image, label, score, key = item

        def lost(places: Array, pixels: Array, number: Array) -> Array:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number)
            best, worst = places < score.size - pixels, places >= pixels  # which are kept
            with_best, with_worst = (
                jax.nn.softmax(classifier(jax.vmap(imputed, (0, None, 0, None))(keys, image, kept, noise)), axis=-1)[
                    :, label
                ]
                for kept in (best, worst)
            )
            return (with_best - with_worst) / 2

        counts = jnp.asarray(pixels, jnp.int32)
        return in_every_order(lost, score, counts, orders, batch_size(classifier)).mean()

    keys = jax.random.split(key, len(images))
    return nan_unless_finite(scores, jax.lax.map(one, (images, labels, scores, keys)))


def imputed(key: Key, image: Array, kept: Mask, noise: Array | float = NOISE) -> Array:
    """Noisy linear imputation (Rong et al. 2022, section 4.2): f32[H, W, C], bool[H, W] -> f32[H, W, C].

    Each missing pixel is the weighted mean of its eight neighbours (1/6 beside it, 1/12 across a corner), missing ones
    too: a system of linear equations, solved by conjugate gradients. Noise of that standard deviation is added, and the
    result clipped to [0, 1]. At least one pixel must be kept.

    >>> image = jnp.array([[[0.0], [0.9], [0.6]]])
    >>> round(float(imputed(jax.random.key(0), image, jnp.array([[True, False, True]]))[0, 1, 0]), 1)
    0.3
    """
    missing = ~kept[..., None]
    present = around(jnp.ones_like(image))
    only = lambda x: jnp.where(missing, x, 0.0)
    laplacian = lambda x: only(present * x - around(x))
    known = jnp.where(missing, 0.0, image)
    start = only(known.mean((0, 1), keepdims=True) / kept.mean(dtype=image.dtype))
    found, _ = jax.scipy.sparse.linalg.cg(laplacian, only(around(known)), start, tol=1e-6, maxiter=1000)
    filled = found + noise * jax.random.normal(unrolled(key), image.shape)
    return jnp.clip(jnp.where(missing, filled, image), 0.0, 1.0)


def around(image: Array) -> Array:
    """f32[H, W, C]: the weighted sum of the eight neighbours of each pixel, those of them that there are."""
    height, width, _ = image.shape
    wide = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    parts = [
        WEIGHTS[r, c] * wide[r : r + height, c : c + width] for r in range(3) for c in range(3) if (r, c) != (1, 1)
    ]
    return jnp.stack(parts).sum(0)


# ------------------------------------------------------------------------------- what a score says in numbers


@pinned
def infidelity(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, subsets: Array
) -> Array:
    """Infidelity (Yeh et al. 2019, definition 2.1): the mean squared error of the sum of scores of what is blanked.

    Over the subsets bool[N, H, W] the mean of (b s - d)^2, where s is the sum of scores of a subset, d the probability
    that is lost with it, and b, one for each map, the factor that makes the mean least (section 3.1 and Captum with
    `normalize=True`): a map need not be in units of probability. Range [0, 1], smaller is better; a constant 0 has the
    mean of d^2. Costs N + 1 evaluations.

    Raises:
      InputError: as `metrics.mu_fidelity`.
    """
    return infidelity_of(*drops(classifier, images, labels, scores, blanks, subsets))


def infidelity_of(sums: Array, lost: Array) -> Array:
    """The same of what `metrics.drops` returns, f32[B, N] each."""
    squares = (sums**2).sum(-1)
    factor = jnp.where(squares > 0, (sums * lost).sum(-1) / jnp.where(squares > 0, squares, 1.0), 0.0)
    return jnp.mean((factor[:, None] * sums - lost) ** 2, axis=-1)


def sensitivity_n(
    classifier: Classifier | Counted,
    images: Array,
    labels: Array,
    scores: Array,
    blanks: Array,
    *,
    key: Key | int,
    grid: int = 8,
    num: int = 100,
    sizes: Sequence[float] = SIZES,
) -> Array:
    """Sensitivity-n (Ancona et al. 2018, definition 1): muFidelity over sets of n cells, in the mean over many n.

    For each share of `sizes`, `num` random sets of so many of grid x grid cells: the correlation of the sum of their
    scores with the probability that is lost when they are blanked. Range [-1, 1], larger is better; the paper draws it
    as a curve over n. Costs len(sizes) * (num + 1) evaluations.

    Raises:
      InputError: as `metrics.mu_fidelity`; or a size is not in (0, 1).
    """
    if not sizes or any(not 0 < size < 1 for size in sizes):
        raise InputError(f"sizes are {list(sizes)}: give shares of the cells in (0, 1), such as {SIZES}")
    cells, shape = whole("grid", grid), np.shape(scores)[1:]
    found = []
    for part, size in zip(jax.random.split(validate.as_key(key), len(sizes)), sizes):
        subsets = random_subsets(part, whole("num", num), (cells, cells), max(round(size * cells**2), 1))
        found.append(mu_fidelity(classifier, images, labels, scores, blanks, enlarged(subsets, shape)))
    return jnp.stack(found).mean(0)


def enlarged(subsets: Array, shape: tuple[int, ...]) -> np.ndarray:
    """bool[N, g, g] -> bool[N, H, W]: cells as equal as H and W allow.

    >>> enlarged(np.array([[[True, False]]]), (2, 3)).astype(int).tolist()
    [[[1, 1, 0], [1, 1, 0]]]
    """
    given = np.asarray(subsets)
    rows, columns = (np.arange(size) * cells // size for size, cells in zip(shape, given.shape[1:], strict=True))
    return given[:, rows][:, :, columns]


@pinned
def calibration(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, *, steps: int = 20
) -> Array:
    """How far what the scores promise is from what is lost, while the best pixels are blanked.

    The best k pixels hold a share of the sum of all scores, and should take the same share of the probability that
    the blank picture has lost. The area between that and the curve of `metrics.deletion_auc`; range [0, 1], smaller is
    better. Negative scores count as none; of a map that is zero everywhere each pixel has the same share.

    Raises:
      InputError: as `metrics.deletion_auc`.
    """
    return calibration_of(deletion_curves(classifier, images, labels, scores, blanks, steps=steps))


def calibration_of(curves: Curves) -> Array:
    """The same of what `metrics.deletion_curves` returns."""
    found = curves.probability
    lost, all_of_it = found[..., :1] - found, found[..., :1] - found[..., -1:]
    return mean_area(jnp.abs(curves.share * all_of_it - lost))


# ------------------------------------------------------------------------------------------------- randomisation


def cascading_randomisation(
    explainer: Callable[[Classifier, Array], Array],
    classifier: Classifier,
    images: Array,
    layers: Sequence[str],
    *,
    key: Key | int,
) -> Array:
    """Cascading randomisation (Adebayo et al. 2018, section 3.1): the map as layer after layer forgets what it learnt.

    The weights of layers[0] are shuffled, then those of layers[1] as well, and so on; the paper goes from the output
    to the input. The rank correlation with the map of the network as it is, f32[len(layers), B] in [-1, 1]: near 0 is
    good, and the sooner, the better. `metrics.randomisation_check` shuffles all at once.

    Args:
      explainer: (classifier, images f32[B, H, W, C]) -> scores f32[B, H, W].
      layers: each a part of the names of arrays, as `jax.tree_util.keystr` writes them, such as "head".

    Raises:
      InputError: a layer names no array.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(settings.single(classifier))
    names, leaves = [jax.tree_util.keystr(path) for path, _ in found], [leaf for _, leaf in found]
    before, maps = explainer(classifier, images), []
    for part, layer in zip(jax.random.split(validate.as_key(key), max(len(layers), 1)), layers):
        named = [place for place, name in enumerate(names) if layer in name]
        if not named:
            raise InputError(f"layers: no array's name has {layer!r} in it: there are {', '.join(names[:6])}, ...")
        for one, place in zip(jax.random.split(part, len(named)), named):
            leaves[place] = shuffled(one, leaves[place])
        maps.append(explainer(jax.tree.unflatten(structure, leaves), images))
    return jnp.stack([jax.vmap(rank_correlation)(before, after) for after in maps])
