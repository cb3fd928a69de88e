"""Certificates: that a mask is 1-minimal, so that dropping any one patch, or shrinking it by one step, breaks
completeness.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp  # noqa: F401 (for the doctest)
import numpy as np

from evomask import presets, validate, verify
from evomask.classifiers.blackbox import completed
from evomask.search import prune
from evomask.search.config import Config
from evomask.search.evaluate import cost, evaluate_fills
from evomask.search.prune import Broken, Pruned
from evomask.settings import pinned
from evomask.types import Array, Classifier, Explanation, InputError, Key, Rows, Target, record


@record
class Certificate:
    """What happens to each mask when one of its patches is dropped or shrunk; one entry per image, NumPy arrays.

    Where less was demanded of a mask than to be complete, that takes the place of "complete" here.
    """

    broken: (
        np.ndarray
    )  # int32[B, 2, G], `Broken` flags of dropping (row 0) and shrinking (1); -1: no patch, or not looked at
    minimal: np.ndarray  # bool[B], complete, and every neighbour is broken
    evaluations: np.ndarray  # int32[B], images sent through the classifier for it, apart from those of the search
    steps: np.ndarray  # int32[B], neighbours that took the mask's place, see `make_minimal`


@pinned
def certify(
    classifier: Classifier, images: Any, found: Explanation, *, key: Key, config: Config | None = None
) -> Certificate:
    """Looks at every mask with one patch dropped, or shrunk by one step, and says what that breaks.

    Args:
      classifier, images, key, config: as given to `explain`.
      found: what it returned. A mask that is not complete is not looked at.

    >>> import evomask
    >>> is_left_bright = lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
    >>> classifier, image, key = evomask.as_classifier(is_left_bright), np.ones((1, 8, 8, 1)), jax.random.key(0)
    >>> found = evomask.explain(classifier, image, key=key, config=evomask.presets.smallest(500))
    >>> smaller, certificate = make_minimal(classifier, image, found, key=key, budget=2000)
    >>> bool(certificate.minimal[0]), bool(certify(classifier, image, smaller, key=key).minimal[0])
    (True, True)
    """
    config = presets.smallest() if config is None else config
    validate.as_key(key)
    return _certificate(_prune_all(classifier, images, found, config, None), config)


@pinned
def make_minimal(
    classifier: Classifier,
    images: Any,
    found: Explanation,
    *,
    key: Key,
    config: Config | None = None,
    budget: int = 1000,
) -> tuple[Explanation, Certificate]:
    """Drops and shrinks patches, always towards the smallest complete neighbour, until the mask is certified.

    Args:
      classifier, images, key, config: as given to `explain`.
      found: what it returned. A mask that is not complete stays as it is.
      budget: the most evaluations for each image; where they do not suffice, `minimal` is False.

    Returns:
      The explanation with the smaller masks, verified once more, and the certificate. Score matrix, history and
      `evaluations` are still those of the search.

    Raises:
      InputError: the budget is not a positive whole number, or the configuration asks for masks that hold.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise InputError(f"budget is {budget!r}: give a whole number of evaluations from 1, such as 1000")
    config = presets.smallest() if config is None else config
    if config.perturbation is not None:
        raise InputError(
            "pruning looks for the smallest mask in one exact showing, which would not hold in others: give the "
            "configuration presets.smallest(), and explain with it"
        )
    key = validate.as_key(key)
    pruned = _prune_all(classifier, images, found, config, budget)
    masks = np.concatenate([found.stage_masks[:, :-1], pruned.mask[:, None]], axis=1)
    questions, config = [one.question() for one in found], dataclasses.replace(config, demand=found.demand)
    fields = verify.verdicts(classifier, questions, masks, found.met, key, config)
    # What was said of the larger masks in many showings is not true of these.
    smaller = dataclasses.replace(found, genome=pruned.genome, precision=None, **fields)
    return smaller, _certificate(pruned, config)


def _prune_all(classifier: Classifier, images: Any, found: Explanation, config: Config, budget: int | None) -> Pruned:
    """Image by image, so that one program serves any number of them; without a budget, the masks stay as they are."""
    contrast = found.contrast if (found.contrast >= 0).any() else None
    images, _, _ = validate.inputs(classifier, images, found.label, contrast, config)
    if not np.array_equal(images, found.image):
        raise InputError(
            f"images {list(images.shape)} are not those of the explanation, {list(found.image.shape)}: give the images "
            "that were explained"
        )
    if found.blanks.shape[1] != len(config.fills):
        raise InputError(
            f"the configuration has {len(config.fills)} fills, the explanation {found.blanks.shape[1]}: give the "
            "configuration that it was found with"
        )
    descend = budget is not None
    config = dataclasses.replace(config, demand=found.demand)
    masks = np.int32(budget // _price(config) if descend else np.iinfo(np.int32).max)
    rows = []
    for one in found:
        asked = one.question().row(), one.genome, one.mask, one.met
        rows.append(jax.device_get(completed(_prune, classifier, config, *asked, masks, descend)))
    return jax.tree.map(lambda *parts: np.stack(parts), *rows)


@functools.partial(jax.jit, static_argnames="descend")
def _prune(
    classifier: Classifier,
    config: Config,
    row: Rows,
    genome: Array,
    mask: Array,
    complete: Array,
    budget: Array,
    descend: bool,
) -> Pruned:
    target = Target(row.image, row.label, row.confidence, (), row.contrast, config.confidence_ratio)
    most = config.batch_size_for(classifier)

    def look(masks: Array) -> Array:
        seen = evaluate_fills(classifier, target, row.blanks, masks, inverse=True, features=False, batch_size=most)
        return prune.broken(seen, target, config.demand)

    # Every neighbour has to be seen for a certificate, so the machine is filled; a descent looks at a few at a time.
    size = min(prune.MOST, max(most // 2, 1)) if descend else max(most // 2, 1)
    return prune.prune(genome, mask, complete, look, budget=budget, descend=descend, size=min(size, 2 * len(genome)))


def _price(config: Config) -> int:
    """Evaluations for one mask."""
    return cost(1, 1, len(config.fills))


def _certificate(pruned: Pruned, config: Config) -> Certificate:
    return Certificate(pruned.broken, pruned.minimal, pruned.looked * np.int32(_price(config)), pruned.steps)


def sentence(certificate: Certificate, met: bool, demand: str = "complete") -> str:
    """The certificate of one image (no batch axis), whose mask is as demanded or not, in words.

    >>> sentence(Certificate(np.array([[1, 4], [2, -1]]), np.True_, np.int32(8), np.int32(0)), True)
    '1-minimal: each of 3 changes to its 2 patches breaks it (class lost by 1, confidence by 1, inverse keeps class in
    1)'
    >>> sentence(Certificate(np.array([[0, 4], [0, -1]]), np.False_, np.int32(8), np.int32(0)), True)
    'not 1-minimal: 2 of 3 changes to its 2 patches leave it complete'
    >>> sentence(Certificate(np.full((2, 2), -1), np.False_, np.int32(0), np.int32(0)), False)
    'no certificate: the mask is not complete'
    """
    if not met:
        return f"no certificate: the mask is not {demand}"
    patches, known = (certificate.broken >= 0).any(0).sum(), certificate.broken[certificate.broken >= 0]
    of = f"{len(known)} changes to its {patches} patches"
    if certificate.minimal:
        lost, faint, kept = ((known & flag > 0).sum() for flag in Broken)
        masked, inverse = f"class lost by {lost}, confidence by {faint}", f"inverse keeps class in {kept}"
        broken = {"sufficient": masked, "necessary": inverse}.get(demand, f"{masked}, {inverse}")
        return f"1-minimal: each of {of} breaks it ({broken})"
    if (known == 0).any():
        return f"not 1-minimal: {(known == 0).sum()} of {of} leave it {demand}"
    return f"not known to be 1-minimal: the budget ended after {of}"


def facts(certificate: Certificate, genome: np.ndarray) -> dict[str, Any]:
    """The certificate of one image (no batch axis), for `explanation.json`: for every patch what breaks without it."""
    named = lambda flags: None if flags < 0 else [str(flag.name).lower() for flag in Broken if flags & flag]
    patches = [
        {"row": row, "col": col, "radius": radius, "dropped": named(dropped), "shrunk": named(shrunk)}
        for (row, col, radius), dropped, shrunk in zip(genome.tolist(), *certificate.broken.tolist())
        if radius >= 0
    ]
    return {
        "minimal": bool(certificate.minimal),
        "evaluations": int(certificate.evaluations),
        "steps": int(certificate.steps),
        "patches": patches,
    }
