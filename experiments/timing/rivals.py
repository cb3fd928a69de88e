"""The shipped networks in PyTorch and ONNX Runtime, with the same weights, to time them side by side.

Each network is described once, in terms of eight operations; a framework is an object that has them. Neither package is
needed by anything else: `pip install torch onnx onnxruntime` beside evomask to have them compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from evomask.classifiers.cnn import CNN
from evomask.classifiers.efficientnet import EfficientNetLiteClassifier
from evomask.types import Classifier, InputError

Forward = Callable[[np.ndarray], np.ndarray]  # f32[N, H, W, C] in [0, 1] -> logits f32[N, K]
Pads = tuple[int, int]  # before and after, the same for rows and columns


class Framework(Protocol):
    """Operations on images [N, C, H, W], except for those that say otherwise."""

    def scale(self, x: Any, factor: float, offset: float) -> Any: ...
    def conv(self, x: Any, kernel: np.ndarray, bias: np.ndarray, stride: int, pads: Pads, groups: int) -> Any: ...
    def clip(self, x: Any, high: float) -> Any: ...  # from 0
    def gelu(self, x: Any) -> Any: ...  # Gaussian error linear unit, with the hyperbolic tangent
    def add(self, x: Any, y: Any) -> Any: ...
    def halve(self, x: Any) -> Any: ...  # 2 x 2 maximum
    def mean(self, x: Any) -> Any: ...  # over pixels: [N, C]
    def dense(self, x: Any, kernel: np.ndarray, bias: np.ndarray) -> Any: ...  # of [N, C]


def describe(classifier: Classifier, framework: Framework, x: Any) -> Any:
    """Logits of images [N, C, H, W] in [0, 1], computed by a framework, for a classifier with NumPy weights.

    Raises:
      InputError: not one of the networks that are described here.
    """
    if isinstance(classifier, EfficientNetLiteClassifier):
        return _lite(classifier, framework, x)
    if isinstance(classifier, CNN):
        return _cnn(classifier, framework, x)
    raise InputError(
        f"no description of a {type(classifier).__name__} for other frameworks: add one to experiments/timing/rivals.py"
    )


def _lite(classifier: EfficientNetLiteClassifier, f: Framework, x: Any) -> Any:
    side = classifier.image_shape[0]

    def conv(x: Any, layer: dict, side: int, stride: int = 1, groups: int = 1, clip: bool = True) -> Any:
        kernel = layer["kernel"].reshape(
            (1,) * (4 - layer["kernel"].ndim) + layer["kernel"].shape
        )  # 1 x 1 are matrices
        x = f.conv(x, kernel, layer["bias"], stride, same_pads(side, len(kernel), stride), groups)
        return f.clip(x, 6.0) if clip else x

    x = conv(f.scale(x, 255 / 128, -127 / 128), classifier.params["stem"], side, stride=2)
    side = -(-side // 2)
    channels = None
    for i, block in enumerate(classifier.variant.blocks):
        layers, shortcut = classifier.params[f"blocks_{i}"], x
        if block.expand > 1:
            x = conv(x, layers["expand"], side)
        x = conv(x, layers["depthwise"], side, block.stride, groups=len(layers["depthwise"]["bias"]))
        side = -(-side // block.stride)
        x = conv(x, layers["project"], side, clip=False)
        if block.stride == 1 and block.features == channels:
            x = f.add(x, shortcut)
        channels = block.features
    x = f.mean(conv(x, classifier.params["top"], side))
    return f.dense(x, classifier.params["logits"]["kernel"], classifier.params["logits"]["bias"])


def _cnn(classifier: CNN, f: Framework, x: Any) -> Any:
    def conv(x: Any, kernel: np.ndarray, bias: np.ndarray) -> Any:
        return f.conv(x, kernel, bias, 1, (1, 1), 1)

    no_bias = np.zeros(classifier.stem.shape[-1], np.float32)
    x = f.clip(conv(f.scale(x, 1.0, -0.5), classifier.stem, no_bias), np.inf)
    for first, *branch in classifier.stages:
        x = f.gelu(f.halve(conv(x, *first)))
        x = f.add(x, functools.reduce(lambda y, layer: f.gelu(conv(y, *layer)), branch, x))
    return f.dense(f.mean(x), *classifier.head)


def same_pads(side: int, size: int, stride: int) -> Pads:
    """SAME padding; uneven padding puts the odd pixel behind.

    >>> same_pads(224, 3, 2), same_pads(112, 5, 2), same_pads(7, 3, 1)
    ((0, 1), (1, 2), (1, 1))
    """
    total = max((-(-side // stride) - 1) * stride + size - side, 0)
    return total // 2, total - total // 2


def torch_forward(classifier: Classifier) -> Forward:
    """In PyTorch, channels last, on the CPU. Raises ModuleNotFoundError where it is not installed."""
    import torch
    from torch.nn import functional

    classifier = jax.device_get(classifier)
    weights: dict[int, tuple] = {}

    class Torch:
        """Weights are converted at the first call and found by the order of the operations from then on."""

        def __init__(self):
            self.place = 0

        def _weights(self, kernel: np.ndarray, bias: np.ndarray, axes: tuple[int, ...]) -> tuple:
            self.place += 1
            if self.place not in weights:
                tensor = torch.tensor(np.ascontiguousarray(kernel.transpose(axes)))
                if tensor.ndim == 4:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
                weights[self.place] = tensor, torch.tensor(bias)
            return weights[self.place]

        def scale(self, x, factor, offset):
            return x * factor + offset

        def conv(self, x, kernel, bias, stride, pads, groups):
            if pads[0] != pads[1]:
                x, pads = functional.pad(x, (*pads, *pads)), (0, 0)
            kernel, bias = self._weights(kernel, bias, (3, 2, 0, 1))
            return functional.conv2d(x, kernel, bias, stride, pads[0], groups=groups)

        def clip(self, x, high):
            return functional.relu(x) if high == np.inf else torch.clamp(x, 0.0, high)

        def gelu(self, x):
            return functional.gelu(x, approximate="tanh")

        def add(self, x, y):
            return x + y

        def halve(self, x):
            return functional.max_pool2d(x, 2)

        def mean(self, x):
            return x.mean((2, 3))

        def dense(self, x, kernel, bias):
            kernel, bias = self._weights(kernel, bias, (1, 0))
            return functional.linear(x, kernel, bias)

    def forward(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():  # a view of channels-last memory is what `permute` makes of NHWC
            return describe(classifier, Torch(), torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

    return forward


def onnx_forward(classifier: Classifier) -> Forward:
    """In ONNX Runtime, on the CPU. Raises ModuleNotFoundError where `onnx` or `onnxruntime` is not installed."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    class Graph:
        """Collects nodes; a value is its name."""

        def __init__(self):
            self.nodes, self.constants = [], []

        def constant(self, value: np.ndarray) -> str:
            name = f"constant{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
            return name

        def node(self, kind: str, *inputs: str, **attributes) -> str:
            name = f"value{len(self.nodes)}"
            self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
            return name

        def scale(self, x, factor, offset):
            x = self.node("Mul", x, self.constant(np.float32(factor)))
            return self.node("Add", x, self.constant(np.float32(offset)))

        def conv(self, x, kernel, bias, stride, pads, groups):
            weights = self.constant(kernel.transpose(3, 2, 0, 1)), self.constant(bias)
            pads = [pads[0]] * 2 + [pads[1]] * 2
            return self.node("Conv", x, *weights, strides=[stride] * 2, pads=pads, group=groups)

        def clip(self, x, high):
            if high == np.inf:
                return self.node("Relu", x)
            return self.node("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(high)))

        def gelu(self, x):
            return self.node("Gelu", x, approximate="tanh")

        def add(self, x, y):
            return self.node("Add", x, y)

        def halve(self, x):
            return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

        def mean(self, x):
            return self.node("Flatten", self.node("GlobalAveragePool", x))

        def dense(self, x, kernel, bias):
            return self.node("Gemm", x, self.constant(kernel), self.constant(bias))

    classifier, graph = jax.device_get(classifier), Graph()
    # The image comes in as NHWC, like everybody else's.
    logits = describe(classifier, graph, graph.node("Transpose", "images", perm=[0, 3, 1, 2]))
    tensor = lambda name, *shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    shapes = tensor("images", "N", *classifier.image_shape), tensor(logits, "N", len(classifier.labels))
    whole = helper.make_graph(graph.nodes, "classifier", shapes[:1], shapes[1:], graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


RIVALS: dict[str, Callable[[Classifier], Forward]] = {"PyTorch": torch_forward, "ONNX Runtime": onnx_forward}
