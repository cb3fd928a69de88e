"""EfficientNet-Lite0 with three small blocks, for images of 32 x 32: everything about it is real but its size."""

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util

from evomask.classifiers import efficientnet

SIDE = 32  # pixels of the images that it takes
BLOCKS = (
    efficientnet.Block(1, 3, 2, 4),
    efficientnet.Block(2, 3, 2, 4),
    efficientnet.Block(2, 5, 2, 8),
)


def shrink_lite0(monkeypatch, folder):
    """Lets `efficientnet_lite0()` be this one, with random weights, until the test ends."""
    variant = efficientnet.Variant("small", BLOCKS, (1, 2, 3, 4), SIDE, 0.875)
    monkeypatch.setattr(efficientnet, "LITE0", variant)
    network = efficientnet.EfficientNetLite(variant)
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, SIDE, SIDE, 3), np.float32))["params"]
    draw = np.random.default_rng(0)
    weights = {
        name: draw.normal(0, 0.3, leaf.shape).astype(np.float16)
        for name, leaf in traverse_util.flatten_dict(shapes, sep=".").items()
    }
    safetensors.numpy.save_file(weights, folder / "lite0.safetensors")
    monkeypatch.setattr(efficientnet, "WEIGHTS", folder / "lite0.safetensors")
