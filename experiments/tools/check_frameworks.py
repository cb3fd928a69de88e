"""One network in JAX, PyTorch, ONNX Runtime, Keras and as a plain function: the same logits, and the same masks.

    python -m venv frameworks
    frameworks/bin/pip install '.[baselines]' torch onnx onnxruntime onnxscript transformers timm torchvision keras
    frameworks/bin/python -m experiments.tools.check_frameworks

Its weights and pictures are multiples of powers of two, so that sums are exact in any order and masks must agree bit
for bit. Then a network of transformers, one of timm and one of torchvision, with weights by chance, are read for
size, names and normalisation, and a ConvNeXt, a CLIP and a DETR of transformers, likewise, are explained.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

import evomask
from evomask import presets
from evomask.report import wording

os.environ.setdefault("KERAS_BACKEND", "jax")  # of its three, the one that is there
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


def keras_model():
    """The same in Keras, with that dropout."""
    import keras

    inputs, layers = keras.Input((SIDE, SIDE, 3)), keras.layers
    patches = layers.Conv2D(8, PATCH, PATCH, activation="relu", use_bias=False)
    head = layers.Dense(CLASSES, use_bias=False)
    model = keras.Model(inputs, head(layers.Dropout(0.5)(layers.GlobalMaxPooling2D()(patches(inputs)))))
    patches.set_weights([KERNEL])
    head.set_weights([HEAD])
    return model


def networks(folder: Path) -> dict[str, evomask.Classifier]:
    """All of them, by name."""
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
        "keras": evomask.from_keras(keras_model()),
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
    import torchvision
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
    module = torchvision.models.mobilenet_v3_small(num_classes=5).eval()
    images = RANDOM.uniform(size=(2, 64, 64, 3)).astype(np.float32)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    box = evomask.from_torch(module, image_shape=(64, 64, 3), normalize=(mean, std))
    with torch.no_grad():
        alone = module(torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(np.asarray(box(jnp.asarray(images))), alone, atol=1e-5)
    print("torchvision: the same logits as by itself")


def check_decisions() -> None:
    """A class, the nearer of two texts and a box, by networks of transformers as they come."""
    import transformers as of

    from evomask.decisions import Box, Similarity

    torch.manual_seed(0)
    config, image = presets.smallest(600), RANDOM.uniform(size=(1, 32, 32, 3)).astype(np.float32)
    settings = of.ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1], num_labels=4)
    convnext = of.ConvNextForImageClassification(settings).eval()
    networks = {"ConvNeXt": (evomask.from_torch(convnext, image_shape=(32, 32, 3)), None)}

    small = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    text, vision = dict(small, vocab_size=50, bos_token_id=1, eos_token_id=2), dict(small, image_size=32, patch_size=8)
    clip = of.CLIPModel(of.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()

    def first(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    @torch.no_grad()
    def embedded(images: np.ndarray) -> np.ndarray:
        return clip.visual_projection(clip.vision_model(pixel_values=first(images)).pooler_output).numpy()

    with torch.no_grad():
        texts = clip.text_projection(clip.text_model(input_ids=torch.tensor([[1, 5, 2], [1, 9, 2]])).pooler_output)
    networks["CLIP"] = (
        evomask.BlackBox(embedded, 8, image_shape=(32, 32, 3), outputs="values"),
        Similarity(texts.numpy(), ("a dog", "a cat")),
    )

    backbone = of.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    heads = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2)
    sizes = dict(d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5, num_labels=3)
    plain = dict(use_timm_backbone=False, backbone_config=backbone, use_pretrained_backbone=False, backbone=None)
    detr = of.DetrForObjectDetection(of.DetrConfig(**heads, **sizes, **plain)).eval()

    @torch.no_grad()
    def detected(images: np.ndarray) -> dict[str, np.ndarray]:
        found = detr(pixel_values=first(images))
        x, y, width, height = (32 * part for part in found.pred_boxes.unbind(-1))
        boxes = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
        return {"boxes": boxes.numpy(), "scores": found.logits.softmax(-1)[..., :-1].numpy()}  # the last is "nothing"

    seen = {name: part[0] for name, part in detected(image).items()}
    best = int(seen["scores"].max(1).argmax())
    label, score = int(seen["scores"][best].argmax()), float(seen["scores"][best].max())
    networks["DETR"] = (
        evomask.from_function(detected, {"boxes": (5, 4), "scores": (5, 3)}, image_shape=(32, 32, 3)),
        Box(seen["boxes"][best], label, threshold=0.9 * score),
    )
    for name, (network, decision) in networks.items():
        found = evomask.explain(network, image, key=0, config=config, decision=decision)[0]
        print(wording.line(found, name))
        assert 0 < found.evaluations <= 600


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        check_masks(Path(name))
    check_readers()
    check_decisions()
