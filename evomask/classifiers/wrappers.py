"""Anybody's network as a `Classifier`, and the checks that every classifier passes before anything is compiled.

In five lines, the network's definition left out:

>>> from flax import linen as nn
>>> from evomask.classifiers import as_classifier, check_classifier
>>> network = nn.Sequential((lambda x: jnp.mean(x, (1, 2)), nn.Dense(10)))
>>> variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
>>> classifier = as_classifier((network, variables), normalize=((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
>>> check_classifier(classifier, (32, 32, 3))
10
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask.classifiers.blackbox import UNDECIDED
from evomask.classifiers.decided import Decided
from evomask.data.classes import as_names
from evomask.types import Array, Classifier, InputError, first_line, record, static

if TYPE_CHECKING:  # Flax takes a second to import: who has a network of it has paid for that
    from flax import linen as nn
    from flax import nnx

Normalize = tuple[Sequence[float] | float, Sequence[float] | float]  # (mean, std) per channel, of images in [0, 1]


def _is_flax(kind: str, network: object) -> bool:
    """Whether it is a module of Flax's "linen" or "nnx", which is imported already if it is."""
    flax = sys.modules.get(f"flax.{kind}")
    return flax is not None and isinstance(network, flax.Module)


@record
class FlaxClassifier:
    """A Flax network: a Linen module with its variables, or an NNX graph definition with its state.

    Where the network's class has a method `features(images)` that returns a tuple of feature maps, so has this.
    """

    definition: nn.Module | nnx.GraphDef = static()
    # Variables of the Linen module or state of the NNX module: leaves.
    state: Any  # pyright: ignore[reportGeneralTypeIssues]
    normalize: tuple[Array, Array] | None = None  # (mean, std), each f32[1, 1, 1, C]
    options: tuple[tuple[str, Hashable], ...] = static(default=())  # keywords of every call, such as ("train", False)
    labels: tuple[str, ...] | None = static(default=None)
    image_shape: tuple[int, int, int] | None = static(default=None)
    batch_size: int = static(default=32)

    def __call__(self, images: Array) -> Array:
        return self._apply("__call__", images)

    @property
    def features(self) -> Callable[[Array], tuple[Array, ...]]:
        """The network's own `features`; AttributeError if it has none, so that hasattr tells."""
        network = self._network()
        if not callable(getattr(type(network), "features", None)):
            raise AttributeError(f"{type(network).__name__} has no method features(images)")
        return lambda images: self._apply("features", images)

    def _network(self) -> Any:
        """The Linen module, or the NNX module with its state."""
        if _is_flax("linen", self.definition):
            return self.definition
        from flax import nnx

        return nnx.merge(self.definition, self.state)  # pyright: ignore[reportCallIssue]

    def _apply(self, method: str, images: Array) -> Any:
        images, options = _normalized(images, self.normalize), dict(self.options)
        if _is_flax("linen", self.definition):
            return self._network().apply(self.state, images, method=method, **options)
        return getattr(self._network(), method)(images, **options)


class Trace:
    """What a function computed when it was last looked at: equal where the operations and the constants are.

    A function may look up weights that change (those of its object, of a closure, of a global name), and a compiled
    program holds the ones it was compiled with. As a static field, this tells the programs apart.
    """

    def __init__(self, function: Callable, *shapes: Any):
        jaxpr, self.results = jax.make_jaxpr(function, return_shape=True)(*shapes)
        self.text, self.constants = re.sub(r" at 0x\w+", "", str(jaxpr)), jaxpr.consts  # without addresses of objects

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Trace) or self.text != other.text:
            return self is other
        same = lambda a, b: a is b or np.array_equal(a, b, equal_nan=np.issubdtype(np.asarray(a).dtype, np.inexact))
        return all(map(same, self.constants, other.constants))

    def __hash__(self) -> int:
        return hash(self.text)


@record
class FunctionClassifier:
    """A JAX function of images, or of (params, images) where there are params (its weights, as leaves).

    >>> def brightness(images):
    ...     return jnp.mean(images, (1, 2))
    >>> FunctionClassifier(brightness)(jnp.ones((2, 8, 8, 3))).shape
    (2, 3)
    """

    function: Callable = static()
    params: object = None
    normalize: tuple[Array, Array] | None = None
    labels: tuple[str, ...] | None = static(default=None)
    image_shape: tuple[int, int, int] | None = static(default=None)
    batch_size: int = static(default=32)
    trace: Trace | None = static(default=None)  # of the function, when `check_classifier` last saw it

    def __call__(self, images: Array) -> Array:
        images = _normalized(images, self.normalize)
        return self.function(images) if self.params is None else self.function(self.params, images)


@dataclasses.dataclass(frozen=True)
class _Rebuilt:
    """Calls a callable pytree taken apart into arrays (params) and everything else (here, static)."""

    structure: Any  # a tree definition
    others: tuple[Hashable, ...]  # one per leaf, None where the leaf is an array

    def __call__(self, arrays, images: Array) -> Array:
        leaves = [other if array is None else array for array, other in zip(arrays, self.others)]
        return jax.tree.unflatten(self.structure, leaves)(images)


def as_classifier(
    network,
    *,
    normalize: Normalize | None = None,
    labels: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    batch_size: int = 32,
    **options,
) -> Classifier:
    """Make a `Classifier` of what JAX users have: images f32[N, H, W, C] in [0, 1] -> logits f32[N, K].

    Args:
      network: one of
        - a pair (Linen module, variables), or (function of (params, images), params);
        - an NNX module: copied, and the copy is put into eval mode, so batch-norms use their running averages and
          dropout is off (the module given is left as it is);
        - a callable pytree, such as an Equinox module, that takes a batch: a network for single images is
          `jax.tree_util.Partial(lambda net, images: jax.vmap(net)(images), net)`; one that has array leaves only is
          returned as it is if nothing else is asked for;
        - a plain function of images. Weights that it closes over become constants of the compiled program, which
          makes compilation slow and keeps a copy, and when they change it is compiled again; prefer the pair with
          params.
      normalize: (mean, std) per channel of the images that the network was trained on, in units of [0, 1].
      labels: names of the K classes.
      image_shape: the one (H, W, C) that the network takes, if there is only one.
      batch_size: the number of images at which it runs fastest.
      **options: keywords of every call of a Flax network, such as `train=False`.

    Raises:
      InputError: `network` is none of these.
      InputError: a `normalize` that is not a pair of finite means and positive deviations.

    >>> from flax import nnx
    >>> classifier = as_classifier(nnx.Linear(3, 10, rngs=nnx.Rngs(0)))
    >>> classifier(jnp.ones((2, 3))).shape
    (2, 10)
    """
    common = dict(
        normalize=mean_and_std(normalize),
        labels=None if labels is None else as_names(labels),
        image_shape=None if image_shape is None else tuple(image_shape),
        batch_size=batch_size,
    )
    flax = dict(options=tuple(sorted(options.items())), **common)
    pair = network if isinstance(network, tuple) and len(network) == 2 else (None, None)
    if _is_flax("linen", pair[0]):
        return FlaxClassifier(*pair, **flax)
    if _is_flax("nnx", network):
        from flax import nnx

        network = nnx.clone(network)
        network.eval()  # pyright: ignore[reportAttributeAccessIssue]
        return FlaxClassifier(*nnx.split(network), **flax)
    if options:
        raise InputError(f"options {sorted(options)} are for Flax networks only, got a {type(network).__name__}")
    if _is_flax("linen", network):
        raise InputError(
            f"a Linen module has no weights of its own: pass the pair ({type(network).__name__}, variables)"
        )
    if callable(pair[0]):
        return FunctionClassifier(*pair, **common)
    if (call := _of_another_framework(network)) is not None:
        raise InputError(f"a {type(network).__name__} is not JAX's: pass evomask.{call}")
    if not callable(network):
        raise InputError(
            f"cannot make a classifier of a {type(network).__name__}: pass a pair (Linen module, variables), an NNX "
            "module, an Equinox module, a function of images or a pair (function of (params, images), params)"
        )
    if jax.tree_util.all_leaves([network]):
        return FunctionClassifier(network if isinstance(network, Hashable) else network.__call__, **common)
    leaves, structure = jax.tree.flatten(network)
    plain = normalize is None and labels is None and image_shape is None
    if plain and all(_is_array(leaf) for leaf in leaves):
        return network  # pyright: ignore[reportReturnType]
    others = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    arrays = tuple(leaf if _is_array(leaf) else None for leaf in leaves)
    return FunctionClassifier(_Rebuilt(structure, others), arrays, **common)


def check_classifier(classifier: Classifier, image_shape: tuple[int, int, int]) -> int:
    """The number K of classes, if the classifier can be used for images of this (H, W, C); compiles nothing.

    Raises:
      InputError: not a pytree of arrays with a call, or its logits are not one floating array.
      InputError: it takes another image shape, fails on it, or gives logits of another shape than [N, K], K >= 2.

    >>> check_classifier(as_classifier(lambda images: jnp.mean(images, (1, 2))), (8, 8, 3))
    3
    """
    name, image_shape = _kind(classifier), tuple(image_shape)  # pyright: ignore[reportAssignmentType]
    if (call := _of_another_framework(classifier)) is not None:
        raise InputError(f"classifier {name} is not JAX's: pass evomask.{call}")
    if not callable(classifier) or not all(_is_number(leaf) for leaf in jax.tree.leaves(classifier)):
        raise InputError(
            f"classifier {name} is not a callable pytree of arrays: pass evomask.classifiers.as_classifier(...) of it"
        )
    returned = None if isinstance(classifier, Decided) else getattr(classifier, "outputs", None)
    if returned in UNDECIDED:
        raise InputError(
            f"classifier {name} returns {returned!r}, not classes of which one is right: "
            "say what is explained, such as decision=evomask.decisions.Label(0)"
        )
    expected = getattr(classifier, "image_shape", None)
    if expected is not None and tuple(expected) != image_shape:
        raise InputError(f"classifier {name} takes images of shape {expected}, got {image_shape}: resize the images")
    num = 3
    images = jax.ShapeDtypeStruct((num, *image_shape), jnp.float32)
    try:
        logits = _results(classifier, images)
    except InputError:  # one line already, of a wrapper or a decision
        raise
    except Exception as error:
        raise InputError(
            f"classifier {name} fails on a batch of images f32{list(images.shape)} ({first_line(error)}): it must take "
            "f32[N, H, W, C] of that H, W and C for any N"
        ) from error
    if not isinstance(logits, jax.ShapeDtypeStruct) or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InputError(
            f"classifier {name} returns {described(logits)}: it must return one floating array, logits[N, K]"
        )
    if logits.ndim != 2 or logits.shape[0] != num or logits.shape[1] < 2:
        raise InputError(
            f"classifier {name} returns {described(logits)} for {num} images: it must return logits[{num}, K] of two "
            "or more classes (for a single probability p, return stack([0, log p - log(1 - p)]))"
        )
    labels = getattr(classifier, "labels", None)
    if labels is not None and len(labels) != logits.shape[1]:
        raise InputError(
            f"classifier {name} has {logits.shape[1]} classes and {len(labels)} labels: give one per class"
        )
    for label, text in zip(labels or (), as_names(labels or ())):
        if label != text:
            raise InputError(
                f"classifier {name} has the label {label!r}, which cannot be printed as text: call it {text!r}"
            )
    return logits.shape[1]


def _results(classifier: Classifier, images: jax.ShapeDtypeStruct):
    """What the classifier returns for such images: shapes and dtypes. Of a function, notes what it computes now."""
    if isinstance(classifier, Decided):  # its numbers are not traced here, so that it can check them
        return jax.eval_shape(classifier.decision, _results(classifier.network, images))
    # A new function each time: JAX keeps what it has traced as long as the function lives, and looks no second time.
    call = lambda classifier, images: classifier(images)
    if not isinstance(classifier, FunctionClassifier):
        return jax.eval_shape(call, classifier, images)
    found = Trace(call, classifier, images)
    if found != classifier.trace:
        object.__setattr__(classifier, "trace", found)  # the one thing in a record that the outside may change
    return found.results


def check_logits(logits: Array) -> None:
    """Raise InputError unless every logit is a number or minus infinity; on the host, for logits f32[N, K] already
    computed.

    >>> check_logits(jnp.array([[0.0, jnp.nan]]))
    Traceback (most recent call last):
    ...
    evomask.types.InputError: the classifier returned NaN or infinity for 1 of 1 images: check its weights and its
    normalisation (images are in [0, 1])
    """
    values = np.asarray(logits)
    bad = (np.isnan(values) | (values == np.inf)).any(axis=-1)
    if bad.any():
        raise InputError(
            f"the classifier returned NaN or infinity for {int(bad.sum())} of {bad.size} images: check its weights and "
            "its normalisation (images are in [0, 1])"
        )


def _normalized(images: Array, normalize: tuple[Array, Array] | None) -> Array:
    if normalize is None:
        return images
    mean, std = normalize
    if mean.shape[-1] not in (1, images.shape[-1]):
        raise InputError(
            f"normalize has {mean.shape[-1]} channels, the images {images.shape[-1]}: give one value for each"
        )
    return (images - mean) / std


def mean_and_std(normalize: Normalize | None) -> tuple[Array, Array] | None:
    """Checked, each f32[1, 1, 1, C]; None where nothing is to be normalised."""
    if normalize is None:
        return None
    message = f"normalize must be (mean, std), as many of each as channels, finite and std > 0, got {normalize}"
    if not isinstance(normalize, Sequence) or len(normalize) != 2:
        raise InputError(message)
    mean, std = (np.asarray(part, np.float32).reshape(1, 1, 1, -1) for part in normalize)
    if mean.shape != std.shape or not np.isfinite(mean).all() or not (np.isfinite(std) & (std > 0)).all():
        raise InputError(message)
    return jnp.asarray(mean), jnp.asarray(std)


def _of_another_framework(network: object) -> str | None:
    """The call that makes a classifier of it, if it is a network of another framework."""
    roots = {kind.__module__.partition(".")[0] for kind in type(network).__mro__}
    if isinstance(network, str | Path) and str(network).endswith(".onnx"):
        return "from_onnx(path)"
    calls = {
        "torch": "from_torch(module, image_shape=(height, width, channels))",
        "onnxruntime": "from_onnx(session)",
        "keras": "from_keras(model)",
    }
    return next((call for root, call in calls.items() if root in roots), None)


def _kind(classifier: Classifier) -> str:
    """What it is called in a message."""
    if isinstance(classifier, Decided):
        return f"{_kind(classifier.network)} with decision {type(classifier.decision).__name__}"
    return type(classifier).__name__


def _is_number(leaf) -> bool:
    """Whether it can be an argument of a compiled program."""
    return _is_array(leaf) or isinstance(leaf, (bool, int, float, complex, np.generic))


def _is_array(leaf) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray))


def described(tree) -> str:
    """Dtypes and shapes of what a network returned, for a message."""
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree))
