"""EfficientNet-Lite0 with three small blocks, for images of 32 x 32: everything about it is real but its size."""

import dataclasses

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
    monkeypatch.setattr(efficientnet, "BLOCKS", BLOCKS)
    monkeypatch.setattr(efficientnet, "DEPTHS", {"shallow": 1, "middle": 2, "deep": 3, "last": 4})
    network = efficientnet.EfficientNetLite0()
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, SIDE, SIDE, 3), np.float32))["params"]
    draw = np.random.default_rng(0)
    weights = {
        name: draw.normal(0, 0.3, leaf.shape).astype(np.float16)
        for name, leaf in traverse_util.flatten_dict(shapes, sep=".").items()
    }
    safetensors.numpy.save_file(weights, folder / "lite0.safetensors")
    monkeypatch.setattr(efficientnet, "WEIGHTS", folder / "lite0.safetensors")
    load = efficientnet.efficientnet_lite0
    small = lambda *args: dataclasses.replace(load(*args), image_shape=(SIDE, SIDE, 3))
    monkeypatch.setattr(efficientnet, "efficientnet_lite0", small)
