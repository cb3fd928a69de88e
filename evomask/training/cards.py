"""What comes out of a run: the classifier, what is measured of it, and the card that says so."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from evomask.classifiers import cnn, vit
from evomask.data import Dataset
from evomask.training.loop import Diverged, TrainState, predict, remedy
from evomask.training.networks import Trainable
from evomask.training.recipe import Params, Recipe
from evomask.types import Array, Classifier


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3): the mean over predictions of |accuracy - confidence| of
    their bin, with `bins` equal bins of the confidence, the softmax probability of the predicted class.

    >>> calibration_error(np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1]))
    0.0
    """
    confidence = np.asarray(jax.nn.softmax(logits)).max(-1)
    right = logits.argmax(-1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((right[bin_of == b].astype(float) - confidence[bin_of == b]).sum()) for b in range(bins)]
    return float(sum(gaps) / len(labels))


def finished(trainable: Trainable, state: TrainState, train: Dataset, recipe: Recipe | None = None) -> Classifier:
    """The classifier that the averaged weights make, rounded to the half precision in which it is shipped.

    Raises:
      Diverged: a weight is too large for that; the message advises what to change in `recipe`.
    """
    classifier = trainable.classifier(*state.average, train.names, train.images.shape[1:])
    with np.errstate(over="ignore"):  # said below
        half = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16), classifier)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(half)):
        raise Diverged(f"training diverged: some weights exceed 65,504, the most in half precision; {remedy(recipe)}")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), half)


def _call(classifier: Classifier, stats: Params, images: Array, train: bool) -> tuple[Array, Params]:
    return classifier(images), stats


def measure(classifier: Classifier, test: Dataset) -> dict[str, float | int | str]:
    """What a card says of a classifier: accuracy and calibration error on the test set, the blank image, the size."""
    shown = np.concatenate([test.images, np.zeros_like(test.images[:1])])  # the last one is blank
    logits = predict(_call, (classifier, {}), shown)
    logits, blank = logits[:-1], np.asarray(jax.nn.softmax(logits[-1]))
    found = {
        "test images": len(test),
        "test accuracy": float((logits.argmax(-1) == test.labels).mean()),
        "calibration error": calibration_error(logits, test.labels),
        "blank label": test.names[blank.argmax()],
        "blank confidence": float(blank.max()),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(classifier)),
    }
    count = {cnn.CNN: cnn.multiply_adds, vit.ViT: vit.multiply_adds}.get(type(classifier))  # pyright: ignore
    return found | ({} if count is None else {"multiply-adds": count(classifier)})


def card(
    name: str, command: str, recipe: Recipe, data: str, train: Dataset, found: dict, seconds: dict, machine: str
) -> str:
    """A Markdown card of a trained network: data, command, recipe and what was measured."""
    settings = "\n".join(f"| `{key}` | {value} |" for key, value in dataclasses.asdict(recipe).items())
    work = f"\n| multiply-adds, one image | {found['multiply-adds']:,} |" if "multiply-adds" in found else ""
    shape = " x ".join(map(str, train.images.shape[1:]))
    classes = f"{len(train.names)} classes: {', '.join(train.names)}"
    return f"""# {name}

Trained by `{command}`

| measured | |
| --- | --- |
| test accuracy | {100 * found["test accuracy"]:.2f} % of {found["test images"]:,} images |
| expected calibration error | {100 * found["calibration error"]:.2f} % |
| blank (black) image | {found["blank label"]}, confidence {found["blank confidence"]:.3f} |
| parameters | {found["parameters"]:,} |{work}
| training | {seconds["wall"] / 60:.0f} minutes, {seconds["processor"] / 60:.0f} processor minutes |
| machine | {machine} |

All of it was measured with the weights as stored, in half precision, computing in single precision. Expected
calibration error (Guo et al. 2017): the mean over test images of |accuracy - confidence| of their bin, 15 equal bins of
the confidence, which is the softmax probability of the predicted class.

Data: {data}; {len(train):,} training images of {shape}, {classes}.

| recipe | |
| --- | --- |
{settings}
"""
