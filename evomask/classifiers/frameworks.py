"""Networks of other frameworks, each in one call: PyTorch, ONNX, Hugging Face's transformers, Keras.

Each becomes a `BlackBox`: the network runs where and as it always does, with weights as they are at that moment, and
evomask's search calls it. Layout, normalisation, size and names are taken from the network where it says them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomask.classifiers.blackbox import UNDECIDED, BlackBox
from evomask.classifiers.wrappers import Normalize, mean_and_std
from evomask.types import InputError

TOLERANCE = 1e-2  # by which scores of an image may differ alone and among others, relative to their spread
Shape = tuple[int, int, int]


def from_torch(
    module: Any,
    *,
    image_shape: Shape | None = None,
    normalize: Normalize | None = None,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> BlackBox:
    """A `torch.nn.Module` of images [N, C, H, W] as a classifier.

    It runs on its own device and in its own precision, without gradients, in eval mode; which of its parts were in
    training mode is put back after every call, and nothing else of it is changed.

    Args:
      module: returns scores [N, K], or an object or dict with `logits`, as transformers' models do.
      image_shape: (H, W, C) of its images; a timm model says it itself.
      normalize: (mean, std) per channel of images in [0, 1]; likewise. None: images go in as they are.
      labels: names of the K classes.
      **options: of `BlackBox`, such as outputs="sigmoid" or batch_size.

    Raises:
      InputError: `module` is none, says no image shape, or returns something else; or its scores of an image depend
        on the other images of the batch.
      Whatever the module raises comes out as it is.
    """
    if not all(hasattr(module, name) for name in ("parameters", "modules", "eval", "forward")):
        raise InputError(f"module is a {type(module).__name__}: give a torch.nn.Module")
    known = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    if image_shape is None and "input_size" in known:
        channels, height, width = known["input_size"]
        image_shape = (height, width, channels)
    if normalize is None and "mean" in known:
        normalize = (known["mean"], known["std"])
    return _box(_Torch(module), type(module).__name__, image_shape, normalize, labels, options)


def from_huggingface(model: Any, processor: Any, *, labels: Sequence[str] | None = None, **options: Any) -> BlackBox:
    """An image classifier of transformers with its image processor, which says size and normalisation.

    Args:
      model: a PyTorch model whose output has `logits`; names of classes are those of `model.config.id2label`.
      processor: its `AutoImageProcessor`. Photographs are scaled by evomask; of the processor, size, mean and
        deviation count.
      labels: names of the K classes.
      **options: of `BlackBox`.

    Raises:
      InputError: the processor says no size; or as `from_torch`.
    """
    size = getattr(processor, "crop_size", None) or getattr(processor, "size", None)
    size = {} if size is None else dict(size)
    height, width = (size.get(name, size.get("shortest_edge")) for name in ("height", "width"))
    if height is None or width is None:
        raise InputError(f"processor {type(processor).__name__} says no size: use from_torch(model, image_shape=...)")
    names = getattr(getattr(model, "config", None), "id2label", None)
    if labels is None and names:
        labels = [names[index] for index in sorted(names)]
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    channels = 3 if mean is None else len(mean)
    normalize = None if mean is None or not getattr(processor, "do_normalize", True) else (mean, std)
    return from_torch(model, image_shape=(height, width, channels), normalize=normalize, labels=labels, **options)


def from_onnx(
    network: Any,
    *,
    image_shape: Shape | None = None,
    normalize: Normalize | None = None,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> BlackBox:
    """An ONNX network, run by ONNX Runtime.

    Args:
      network: a path, or an `onnxruntime.InferenceSession` of one's own making. Its one input is a batch of images,
        channels first or last as its shape tells; scores [N, K] are its first output.
      image_shape: (H, W, C) of its images, where the network leaves it open.
      normalize: (mean, std) per channel of images in [0, 1].
      labels: names of the K classes.
      **options: of `BlackBox`.

    Raises:
      InputError: no such file, several inputs, or no image shape; or as `from_torch`.
      ImportError: there is no onnxruntime.
    """
    if isinstance(network, str | Path):
        if not Path(network).is_file():
            raise InputError(f"network is {str(network)!r}: there is no such file")
        import onnxruntime  # pyright: ignore[reportMissingImports]

        network = onnxruntime.InferenceSession(str(network), providers=onnxruntime.get_available_providers())
    inputs = network.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise InputError(
            f"the ONNX network has the inputs {[(one.name, one.shape) for one in inputs]}: one batch of images is "
            "wanted; wrap the session in a BlackBox of your own"
        )
    count, *shape = inputs[0].shape
    first = shape[0] in (1, 3, 4) or shape[2] not in (1, 3, 4)
    told = (*shape[1:], shape[0]) if first else tuple(shape)
    if image_shape is None and all(isinstance(length, int) for length in told):
        image_shape = told
    run = _Onnx(network, inputs[0], first, count if isinstance(count, int) else None)
    return _box(run, "ONNX network", image_shape, normalize, labels, options)


def from_keras(
    model: Any, *, normalize: Normalize | None = None, labels: Sequence[str] | None = None, **options: Any
) -> BlackBox:
    """A Keras model of images [N, H, W, C], whatever its backend.

    Args:
      model: with `input_shape` and `output_shape`. Where its last layer is a softmax or a sigmoid, its outputs are
        taken as probabilities of classes, or of labels.
      normalize: (mean, std) per channel of images in [0, 1]; (0, 1 / 255) for a model that wants bytes.
      labels: names of the K classes.
      **options: of `BlackBox`.

    Raises:
      InputError: `model` is none, or takes images of any size; or as `from_torch`.
    """
    if not callable(model) or not hasattr(model, "input_shape"):
        raise InputError(f"model is a {type(model).__name__}: give a Keras model with one input")
    activation = getattr(getattr((getattr(model, "layers", None) or [None])[-1], "activation", None), "__name__", "")
    kinds = {"softmax": "probabilities", "sigmoid": "sigmoid"}
    options = {"outputs": kinds.get(activation, "logits")} | options
    shape = tuple(model.input_shape[1:])
    shape = shape if all(isinstance(length, int) for length in shape) else None
    return _box(
        lambda images: np.asarray(model(images, training=False)),
        type(model).__name__,
        shape,
        normalize,
        labels,
        options,
    )


class _Torch:
    """Images [N, H, W, C] -> scores of a module in eval mode."""

    def __init__(self, module: Any):
        self.module = module

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import torch  # pyright: ignore[reportMissingImports]

        weight = next(self.module.parameters(), torch.zeros(()))
        batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        with torch.inference_mode(), _evaluating(self.module):
            scores = self.module(batch.to(weight.device, weight.dtype))
        scores = scores.get("logits") if isinstance(scores, dict) else getattr(scores, "logits", scores)
        if not isinstance(scores, torch.Tensor):
            raise InputError(
                f"module {type(self.module).__name__} returns a {type(scores).__name__}: it must return scores [N, K], "
                "or `logits`; wrap it in a module that does"
            )
        return scores.float().cpu().numpy()  # pyright: ignore[reportOptionalMemberAccess]


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Eval mode while open; what was in training mode is so again afterwards."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class _Onnx:
    """Images [N, H, W, C] -> scores of a session, which may take only so many at a time."""

    def __init__(self, session: Any, wanted: Any, first: bool, count: int | None):
        self.session, self.name, self.first, self.count = session, wanted.name, first, count
        self.dtype = np.float16 if "float16" in str(wanted.type) else np.float32

    def __call__(self, images: np.ndarray) -> np.ndarray:
        batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2) if self.first else images).astype(self.dtype)
        if self.count is None:
            return self._run(batch)
        short = -len(batch) % self.count  # the last call is filled up
        batch = np.concatenate([batch, np.repeat(batch[-1:], short, 0)])
        parts = [self._run(batch[done : done + self.count]) for done in range(0, len(batch), self.count)]
        return np.concatenate(parts)[: len(images)]

    def _run(self, batch: np.ndarray) -> np.ndarray:
        return np.asarray(self.session.run(None, {self.name: batch})[0], np.float32)


class _Normalized:
    """Images in [0, 1], normalised for a function."""

    def __init__(self, function: Callable, normalize: Normalize):
        self.function = function
        self.mean, self.std = (np.asarray(part) for part in mean_and_std(normalize) or ())

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.function((images - self.mean) / self.std)


def _box(
    function: Callable,
    name: str,
    image_shape: Shape | None,
    normalize: Normalize | None,
    labels: Sequence[str] | None,
    options: dict[str, Any],
) -> BlackBox:
    """The black box, after a first call that tells K and whether images are independent."""
    if image_shape is None or len(image_shape) != 3:
        raise InputError(f"{name} does not say what images it takes: give image_shape=(height, width, channels)")
    if normalize is not None:
        function = _Normalized(function, normalize)
    images = np.random.default_rng(0).uniform(size=(3, *image_shape)).astype(np.float32)
    together, alone = np.asarray(function(images.copy())), np.asarray(function(images[:1].copy()))
    scores = together.reshape(len(images), -1) if together.ndim == 1 else together
    if scores.ndim != 2 or len(scores) != len(images):
        raise InputError(
            f"{name} returns {list(together.shape)} for {len(images)} images: it must return scores [N, K]"
        )
    if scores.shape[1] == 1 and options.get("outputs", "logits") not in UNDECIDED:
        raise InputError(
            f"{name} returns one number for each image: say what it is, outputs='values' or outputs='sigmoid', and "
            "what is explained, such as decision=evomask.decisions.Threshold(0.5)"
        )
    if not np.isfinite(scores).all():
        raise InputError(f"{name} returns NaN or infinity for random images: check its weights and its normalisation")
    apart = np.abs(scores[:1] - alone.reshape(1, -1)).max()
    if apart > TOLERANCE * max(1.0, float(np.ptp(scores))):
        raise InputError(
            f"{name} gives an image other scores alone than among others (by {apart:.3g}): no part of it may depend on "
            "the batch or on chance, as batch normalisation and dropout in training mode do"
        )
    shaped = _Rows(function) if together.ndim == 1 else function
    return BlackBox(shaped, scores.shape[1], image_shape=image_shape, labels=labels, **options)  # pyright: ignore


class _Rows:
    """Numbers [N] of a function as [N, 1]."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(images)).reshape(len(images), -1)
