"""One network in JAX, PyTorch, ONNX Runtime and as a plain function: the same logits, and the same masks.

    python -m venv frameworks
    frameworks/bin/pip install '.[baselines]' torch onnx onnxruntime onnxscript transformers timm
    frameworks/bin/python -m experiments.tools.check_frameworks

Its weights and pictures are multiples of powers of two, so that sums are exact in any order and masks must agree bit
for bit. Then a network of transformers and one of timm, with weights by chance, are read for size, names and
normalisation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

import evomask
from evomask import presets

SIDE, PATCH, CLASSES = 16, 4, 3
RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.integers(-8, 9, (PATCH, PATCH, 3, 8)).astype(np.float32) / 16
HEAD = RANDOM.integers(-8, 9, (8, CLASSES)).astype(np.float32) / 4
IMAGES = RANDOM.integers(0, 9, (2, SIDE, SIDE, 3)).astype(np.float32) / 8


def plain(images: np.ndarray) -> np.ndarray:
    """The network by NumPy: patches, rectified, the greatest of each channel, and a linear layer."""
    patches = images.reshape(len(images), SIDE // PATCH, PATCH, SIDE // PATCH, PATCH, 3)
    return np.maximum(np.einsum("nipjqc,pqcf->nijf", patches, KERNEL), 0).max((1, 2)) @ HEAD


def compiled(weights, images):
    patches = images.reshape(len(images), SIDE // PATCH, PATCH, SIDE // PATCH, PATCH, 3)
    return jnp.maximum(jnp.einsum("nipjqc,pqcf->nijf", patches, weights[0]), 0).max((1, 2)) @ weights[1]


class Module(torch.nn.Module):
    """The same, with a dropout that must be off."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, PATCH, PATCH, bias=False)
        self.head, self.dropout = torch.nn.Linear(8, CLASSES, bias=False), torch.nn.Dropout(0.5)
        self.patches.weight.data = torch.from_numpy(KERNEL.transpose(3, 2, 0, 1).copy())
        self.head.weight.data = torch.from_numpy(HEAD.T.copy())

    def forward(self, images):
        return self.head(self.dropout(torch.relu(self.patches(images)).amax((2, 3))))


def networks(folder: Path) -> dict[str, evomask.Classifier]:
    """The four, by name."""
    module = Module().train()
    exported = Module().eval()
    batch = torch.export.Dim("batch")
    example = torch.zeros(2, 3, SIDE, SIDE)
    torch.onnx.export(exported, (example,), folder / "net.onnx", dynamo=True, dynamic_shapes=({0: batch},))
    shape = (SIDE, SIDE, 3)
    found = {
        "jax": evomask.as_classifier((compiled, (jnp.asarray(KERNEL), jnp.asarray(HEAD)))),
        "torch": evomask.from_torch(module, image_shape=shape),
        "onnx": evomask.from_onnx(folder / "net.onnx"),
        "function": evomask.BlackBox(plain, CLASSES, image_shape=shape),
    }
    assert all(part.training for part in module.modules()), "the module's mode was not put back"
    return found


def check_masks(folder: Path) -> None:
    config, masks = presets.smallest(600), {}
    for name, network in networks(folder).items():
        np.testing.assert_array_equal(np.asarray(network(jnp.asarray(IMAGES))), plain(IMAGES), err_msg=name)
        masks[name] = evomask.explain(network, IMAGES, key=jax.random.key(0), config=config).mask
        np.testing.assert_array_equal(masks[name], masks["jax"], err_msg=name)
        print(f"{name}: same logits, same masks of {masks[name].sum((1, 2)).tolist()} pixels")


def check_readers() -> None:
    """What transformers' and timm's networks say of themselves."""
    import timm
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    settings = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32
    )
    settings.id2label, settings.label2id = {0: "tea", 1: "coffee"}, {"tea": 0, "coffee": 1}
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    box = evomask.from_huggingface(ViTForImageClassification(settings), processor)
    assert (box.image_shape, box.labels) == ((32, 32, 3), ("tea", "coffee")), box
    print("transformers: size, names and normalisation read")
    box = evomask.from_torch(timm.create_model("resnet10t", num_classes=5))
    assert (box.image_shape, box.num_classes) == ((176, 176, 3), 5), box
    print("timm: size and normalisation read")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        check_masks(Path(name))
    check_readers()
