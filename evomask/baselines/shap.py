"""SHAP through the `shap` package (extra `baselines`): Owen values of a hierarchy of image rectangles."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import jax
import numpy as np

from evomask.baselines.base import on_host
from evomask.fills import Constant
from evomask.measures.budget import Account, Spent
from evomask.types import Key, record


@record
class SHAP:
    """Partition SHAP (Lundberg & Lee 2017), `shap.PartitionExplainer` with the image masker; range (-inf, inf).

    The masker hides pixels behind the blank image, and max_evals is the budget: the package evaluates in pairs
    beside the whole and the blank image, so an odd budget leaves one over, and it may stop early when every leaf
    is reached. The score is the value of the label's probability, summed over the channels; what remains on a
    rectangle that was not split further is shared evenly by its pixels. Deterministic for a key.
    """

    fill: Callable = Constant()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=max(budget - budget % 2, 4))

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        shap = package()
        fill_key, seed_key = jax.random.split(key)
        masker = shap.maskers.Image(np.asarray(self.fill(fill_key, image)))  # pyright: ignore[reportAttributeAccessIssue]
        explainer = shap.PartitionExplainer(lambda images: predict(images)[:, label], masker)
        with global_seed(seed_key):
            found = explainer(
                np.asarray(image)[None],
                max_evals=self.cost(image.shape, budget).forward,
                batch_size=predict.batch_size,
                silent=True,
            )
        return found.values[0].reshape(image.shape).sum(-1)  # pyright: ignore[reportAttributeAccessIssue]


def package():
    """The `shap` package."""
    with warnings.catch_warnings():
        # shap 0.51 sets the colours of its figures, on import, by a way that matplotlib 3.11 will drop.
        warnings.filterwarnings("ignore", "The set_(bad|over|under) function", PendingDeprecationWarning)
        import shap
    return shap


@contextlib.contextmanager
def global_seed(key: Key) -> Iterator[None]:
    """The package draws and breaks ties with NumPy's global generator: seed it, and give it back as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(jax.random.randint(key, (), 0, 2**31 - 1)))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
