"""The shipped networks with small blocks, and few of them: everything about them is real but their size."""

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from evomask.classifiers import cnn, efficientnet

SIDE = 32  # pixels of the images that the small Lite0 takes
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


def tiny_cnn(seed=0):
    """A random network of the form of the shipped CIFAR-10 network, for 12 x 12 pixels."""
    module = cnn.ResidualCNN(num_classes=3, widths=(4, 6), depth=2, directions=2)
    images = jax.random.uniform(jax.random.key(seed), (4, 12, 12, 3))
    variables = module.init(jax.random.key(seed + 1), images)
    folded = cnn.fold(module, variables, ("a", "b", "c"), (12, 12, 3))
    head = jax.random.normal(jax.random.key(seed + 2), (6, 3)), jnp.arange(3.0)
    return cnn.CNN(folded.stem, folded.stages, head, folded.labels, folded.image_shape)
