"""Training on device: one jitted step holds batching, augmentation, loss, update and weight averaging.

The training set lives on the device as `uint8`. Everything random derives from a key and the number of the step or of
the epoch, and the state carries the whole loss curve; a run that is interrupted and resumed from its checkpoint
therefore repeats the uninterrupted one bit for bit on the same machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
import safetensors
import safetensors.numpy
from flax import traverse_util

from evomask.classifiers import cnn, efficientnet
from evomask.data import Dataset
from evomask.types import Array, Classifier, InputError, Key, record

Params = Any
RECIPE_FILE = "recipe.json"  # beside the checkpoints


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every hyper-parameter of a training run; the numbers that decide the weights, next to the data and the model."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"  # sgd (Nesterov), adamw, or muon: Muon for convolution kernels, sgd for the rest
    learning_rate: float = 0.15  # the peak, reached after the warm-up
    warmup: float = 0.2  # fraction of all steps with a linearly rising rate; a cosine to zero follows
    momentum: float = 0.9
    bias_rate: float = (
        1.0  # biases of normalisations learn so many times faster (Jordan 2024, arXiv:2404.00498, uses 64)
    )
    weight_decay: float = 5e-4  # of weights with two or more axes
    kernel_rate: float = 0.05  # with muon, the peak for convolution kernels
    kernel_decay: float = 0.02  # with muon, the weight decay of convolution kernels
    label_smoothing: float = 0.1
    average: float = 0.995  # decay of the exponential average of the weights that is evaluated and exported
    pad: int = 2  # crops move by up to so many pixels; the border is filled by reflection
    flip: bool = True  # left-right, every image in every second epoch
    erase: float = 0.0  # probability that one rectangle of an image is erased
    erase_area: tuple[float, float] = (0.02, 0.5)  # its share of the image
    erase_black: float = 0.5  # probability that it becomes black; otherwise one random colour or noise
    mixup: float = 0.0  # each image is mixed with another one, by a share from Beta(mixup, mixup); 0: never
    frozen_epochs: int = 0  # so many epochs at the start train the head only
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "erase_area", tuple(self.erase_area))
        fractions = ("warmup", "label_smoothing", "average", "erase", "erase_black", "momentum")
        wrong = [name for name in fractions if not 0 <= getattr(self, name) <= 1]
        if wrong:
            raise InputError(f"recipe.{wrong[0]} is {getattr(self, wrong[0])}: give a number from 0 to 1")
        if self.mixup < 0:
            raise InputError(f"recipe.mixup is {self.mixup}: give 0 (never) or a positive number, such as 0.3")
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(
                f"recipe has {self.epochs} epochs and batches of {self.batch_size}: both must be at least 1"
            )
        if self.optimizer not in ("sgd", "adamw", "muon"):
            raise InputError(f"recipe.optimizer is {self.optimizer!r}: choose sgd, adamw or muon")
        if not 0 <= self.frozen_epochs <= self.epochs:
            raise InputError(f"recipe.frozen_epochs is {self.frozen_epochs}: give 0 .. {self.epochs} (recipe.epochs)")


@dataclasses.dataclass(frozen=True)
class Trainable:
    """A network as functions: how its weights begin, what they make of images, and what classifier comes out.

    init: (key, images f32[N, H, W, C]) -> (params, stats)
    apply: (params, stats, images, train) -> (logits f32[N, K], stats)
    classifier: (params, stats, labels, image_shape) -> Classifier
    save: (classifier, path of a .safetensors file), in half precision
    is_head: path of a parameter -> whether it is trained while the trunk is frozen
    """

    init: Callable[[Key, Array], tuple[Params, Params]]
    apply: Callable[[Params, Params, Array, bool], tuple[Array, Params]]
    classifier: Callable[[Params, Params, tuple[str, ...], tuple[int, int, int]], Classifier]
    save: Callable[[Classifier, Path], None]
    is_head: Callable[[tuple], bool] = lambda path: True


@record
class TrainState:
    """What a checkpoint holds: S steps in all, E epochs."""

    step: Array  # int32[], steps done
    params: Params
    stats: Params  # batch-norm statistics and fixed filters
    optimizer: Any
    average: tuple[Params, Params]  # exponential averages of params and stats
    loss: Array  # f32[S], zero where not reached yet
    accuracy: Array  # f32[S], on the augmented batch
    test_accuracy: Array  # f32[E], of the averaged weights


def residual_cnn(num_classes: int, precision: str = "auto", **shape) -> Trainable:
    """A `ResidualCNN` from scratch; `shape` are its widths, depth and directions."""
    module = cnn.ResidualCNN(num_classes, dtype=compute_dtype(precision), **shape)

    @jax.jit
    def init(key: Key, images: Array):
        variables = dict(module.init(key, images, False))
        params = variables.pop("params")
        return params, variables

    def apply(params: Params, stats: Params, images: Array, train: bool):
        if not train:
            return module.apply({"params": params, **stats}, images, False), stats
        return module.apply({"params": params, **stats}, images, True, mutable=list(stats))

    def classifier(params: Params, stats: Params, labels: tuple[str, ...], image_shape: tuple[int, int, int]):
        return cnn.fold(module, {"params": params, **stats}, labels, image_shape)

    return Trainable(init, apply, classifier, cnn.save)


def efficientnet_lite0(num_classes: int, precision: str = "auto") -> Trainable:
    """EfficientNet-Lite0 with its ImageNet weights and a new head of zeros, for images of 224 x 224.

    Its batch-norms are folded into the convolutions, so fine-tuning moves weights and biases only.
    """
    dtype = compute_dtype(precision)
    pretrained = efficientnet.efficientnet_lite0()
    network = efficientnet.EfficientNetLite0(num_classes, pretrained.depthwise)

    def init(key: Key, images: Array):
        if images.shape[1:] != pretrained.image_shape:
            raise InputError(
                f"images are {images.shape[1:]}, the network takes {pretrained.image_shape}: set data.size=224"
            )
        head = {"kernel": jnp.zeros((1280, num_classes)), "bias": jnp.zeros(num_classes)}
        return {**pretrained.params, "logits": head}, {}

    def apply(params: Params, stats: Params, images: Array, train: bool):
        cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        logits = network.apply({"params": cast}, images.astype(dtype))[1]
        return logits.astype(jnp.float32), stats

    def classifier(params: Params, stats: Params, labels: tuple[str, ...], image_shape: tuple[int, int, int]):
        return dataclasses.replace(pretrained, params=params, labels=labels)

    return Trainable(init, apply, classifier, save_lite0, lambda path: path[0].key == "logits")


def save_lite0(classifier: efficientnet.EfficientNetLite0Classifier, path: str | Path) -> None:
    """Writes a fine-tuned EfficientNet-Lite0 in half precision, with its labels in the header."""
    tensors = traverse_util.flatten_dict(classifier.params, sep=".")
    tensors = {name: np.asarray(value, np.float16) for name, value in tensors.items()}
    safetensors.numpy.save_file(tensors, f"{path}.tmp", {"labels": json.dumps(classifier.labels)})
    os.replace(f"{path}.tmp", path)


def load_lite0(path: str | Path) -> efficientnet.EfficientNetLite0Classifier:
    """The network in a file that `save_lite0` wrote, for computation in single precision.

    Raises:
      InputError: the file is missing, damaged, or holds something else.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            labels = tuple(json.loads((file.metadata() or {})["labels"]))
            tensors = {name: jnp.asarray(file.get_tensor(name), jnp.float32) for name in file.keys()}
    except FileNotFoundError as error:
        raise InputError(f"no weights at '{path}': train them with python -m experiments.train") from error
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"'{path}' holds no network written by evomask.training.save_lite0 ({error})") from error
    params = traverse_util.unflatten_dict(tensors, sep=".")
    return dataclasses.replace(efficientnet.efficientnet_lite0(), params=params, labels=labels)


def compute_dtype(precision: str) -> jnp.dtype:
    """ "float32", "bfloat16", or "auto": bfloat16 on an accelerator, float32 on a CPU. Weights stay in float32."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise InputError(f"precision is {precision!r}: choose auto, float32 or bfloat16")
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)


def random_crop(key: Key, images: Array, pad: int) -> Array:
    """Moves each image by up to `pad` pixels in each direction; the border is filled by reflection."""
    num, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    corners = jax.random.randint(key, (num, 2), 0, 2 * pad + 1)
    crop = lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))
    return jax.vmap(crop)(padded, corners)


def random_erase(key: Key, image: Array, probability: float, area: tuple[float, float], black: float) -> Array:
    """Erases one rectangle of one image f32[H, W, C] (Zhong et al. 2020, arXiv:1708.04896).

    Its share of the image is uniform in `area`, its aspect log-uniform in [1/3, 3]. It becomes 0 (black) with
    probability `black`, otherwise one random colour or uniform noise with equal chances.
    """
    height, width, channels = image.shape
    happen, share, aspect, row, col, kind, colour, noise = jax.random.split(key, 8)
    pixels = jax.random.uniform(share, (), minval=area[0], maxval=area[1]) * (height * width)
    ratio = jnp.exp(jax.random.uniform(aspect, (), minval=-jnp.log(3.0), maxval=jnp.log(3.0)))
    rows = jnp.clip(jnp.sqrt(pixels * ratio), 1.0, float(height))
    cols = jnp.clip(jnp.sqrt(pixels / ratio), 1.0, float(width))
    top = jax.random.uniform(row) * (height - rows)
    left = jax.random.uniform(col) * (width - cols)
    r, c = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None, :]
    inside = ((r >= top) & (r < top + rows))[:, :] & ((c >= left) & (c < left + cols))[:, :]
    draw = jax.random.uniform(kind)
    plain = jnp.broadcast_to(jax.random.uniform(colour, (1, 1, channels)), image.shape)
    other = jnp.where(draw < black + (1 - black) / 2, plain, jax.random.uniform(noise, image.shape))
    fill = jnp.where(draw < black, jnp.zeros_like(image), other)
    erased = jnp.where(inside[:, :, None], fill, image)
    return jnp.where(jax.random.bernoulli(happen, probability), erased, image)


def augment(key: Key, images: Array, mirror: Array, recipe: Recipe) -> Array:
    """Crop, flip and erase f32[N, H, W, C]; `mirror` bool[N] says which images are flipped."""
    crop_key, erase_key = jax.random.split(key)
    if recipe.pad:
        images = random_crop(crop_key, images, recipe.pad)
    if recipe.flip:
        images = jnp.where(mirror[:, None, None, None], images[:, :, ::-1], images)
    if recipe.erase:
        erase = lambda k, image: random_erase(k, image, recipe.erase, recipe.erase_area, recipe.erase_black)
        images = jax.vmap(erase)(jax.random.split(erase_key, len(images)), images)
    return images


def mixup_shares(key: Key, num: int, strength: float) -> Array:
    """How much of another image goes into each of `num`: f32[num] in [0, 0.5], from Beta(strength, strength); 0 without
    strength.
    """
    if not strength:
        return jnp.zeros(num)
    share = jax.random.beta(key, strength, strength, (num,))
    return jnp.minimum(share, 1 - share)


def mix(examples: Array, shares: Array) -> Array:
    """Mixes each example with the one before it in the batch (mixup, Zhang et al. 2018, arXiv:1710.09412).

    Args:
      examples: f32[N, ...], images or their targets.
      shares: f32[N], the other one's share.

    >>> mix(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.5, 0.0, 0.25])).tolist()
    [1.0, 1.0, 1.75]
    """
    shares = shares.reshape(-1, *[1] * (examples.ndim - 1))
    return (1 - shares) * examples + shares * jnp.roll(examples, 1, axis=0)


def make_optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Linear warm-up, cosine to zero; weight decay on weights with two or more axes only.

    Muon (Jordan et al. 2024; `optax.contrib`) makes the update of a kernel orthogonal, seen as a matrix from its inputs
    to its outputs, with three Newton-Schulz steps.
    """
    warmup = round(recipe.warmup * steps)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps)
    rate = lambda peak: (
        lambda count: peak * schedule(count.astype(jnp.float32))
    )  # integers divided: an error under strict promotion
    decayed = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    faster = optax.masked(optax.scale(recipe.bias_rate), norm_biases)
    if recipe.optimizer == "adamw":
        adamw = optax.adamw(rate(recipe.learning_rate), weight_decay=recipe.weight_decay, mask=decayed)
        return optax.chain(any_dtypes(adamw), faster)
    sgd = optax.chain(
        optax.add_decayed_weights(recipe.weight_decay, decayed),
        optax.sgd(rate(recipe.learning_rate), recipe.momentum, nesterov=True),
        faster,
    )
    if recipe.optimizer == "sgd":
        return sgd
    as_matrix = lambda params: jax.tree.map(lambda p: optax.contrib.MuonDimensionNumbers((0, 1, 2), 3), params)
    muon = optax.chain(
        any_dtypes(optax.contrib.scale_by_muon(beta=recipe.momentum, ns_steps=3, weight_dimension_numbers=as_matrix)),
        optax.add_decayed_weights(recipe.kernel_decay),
        optax.scale_by_learning_rate(rate(recipe.kernel_rate)),
    )
    kinds = lambda params: jax.tree.map(lambda p: "muon" if p.ndim == 4 else "sgd", params)
    return optax.partition({"muon": muon, "sgd": sgd}, kinds)


def any_dtypes(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same, also where dtype promotion is strict: Adam and Muon raise a float to an integer power."""

    def update(*args):
        with jax.numpy_dtype_promotion("standard"):
            return transform.update(*args)

    return optax.GradientTransformation(transform.init, update)


def norm_biases(params: Params) -> Params:
    """bool for each weight: is it the bias of a batch normalisation?"""
    return jax.tree.map_with_path(lambda path, _: "BatchNorm" in jax.tree_util.keystr(path), params)


def epoch_order(key: Key, epoch: Array, num: int) -> Array:
    """int32[num], the order in which the epoch visits the images."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), num)


@functools.lru_cache(maxsize=8)
def make_step(trainable: Trainable, recipe: Recipe, per_epoch: int, frozen: bool = False):
    """The jitted step: (state, images uint8[N, H, W, C], labels int32[N], order int32[N], key) -> state.

    With `frozen`, only the head is trained, and no gradient of the trunk is computed. The same arguments give the same
    function, so that a process compiles it once.
    """
    optimizer = make_optimizer(recipe, recipe.epochs * per_epoch)

    def freeze(tree, of):
        return jax.tree.map_with_path(lambda path, leaf: leaf if trainable.is_head(path) else of(leaf), tree)

    def loss_of(params, stats, images, labels, shares):
        if frozen:
            params = freeze(params, jax.lax.stop_gradient)
        logits, stats = trainable.apply(params, stats, mix(images, shares), True)
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), recipe.label_smoothing)
        loss = optax.softmax_cross_entropy(logits, mix(targets, shares)).mean()
        return loss, (stats, (logits.argmax(-1) == labels).mean())

    def step(state: TrainState, images: Array, labels: Array, order: Array, key: Key) -> TrainState:
        mirror_key, augment_key = jax.random.split(key)
        epoch, position = state.step // per_epoch, state.step % per_epoch
        index = jax.lax.dynamic_slice(order, (position * recipe.batch_size,), (recipe.batch_size,))
        mirror = jax.random.bernoulli(mirror_key, shape=labels.shape)[index] ^ (epoch % 2 == 1)
        batch = images[index].astype(jnp.float32) / 255.0
        batch_key, mix_key = jax.random.split(jax.random.fold_in(augment_key, state.step))
        batch = augment(batch_key, batch, mirror, recipe)
        shares = mixup_shares(mix_key, recipe.batch_size, recipe.mixup)
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (stats, accuracy)), grads = gradient(state.params, state.stats, batch, labels[index], shares)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        if frozen:
            updates = freeze(updates, jnp.zeros_like)
        params = optax.apply_updates(state.params, updates)
        # The average starts as a plain mean and ends as an exponential one, so that early weights fade quickly.
        decay = jnp.minimum(recipe.average, (state.step + 1) / (state.step + 10))
        average = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.average, (params, stats))
        return TrainState(
            state.step + 1,
            params,
            stats,
            optimizer_state,
            average,
            state.loss.at[state.step].set(loss),
            state.accuracy.at[state.step].set(accuracy),
            state.test_accuracy,
        )

    return jax.jit(step, donate_argnums=0)


def start(trainable: Trainable, recipe: Recipe, train: Dataset) -> TrainState:
    """The state before the first step; 512 training images set the whitening filters."""
    total = recipe.epochs * (len(train) // recipe.batch_size)
    optimizer = make_optimizer(recipe, total)
    init_key, _, _ = jax.random.split(jax.random.key(recipe.seed), 3)
    images = jnp.asarray(train.images[:: max(1, len(train) // 512)][:512], jnp.float32) / 255.0
    params, stats = trainable.init(init_key, images)
    average = jax.tree.map(jnp.array, (params, stats))  # a copy: the step donates its input buffers
    return TrainState(
        jnp.int32(0),
        params,
        stats,
        optimizer.init(params),
        average,
        jnp.zeros(total),
        jnp.zeros(total),
        jnp.zeros(recipe.epochs),
    )


def start_from(folder: str | Path, trainable: Trainable, train: Dataset) -> Trainable:
    """The network with the averaged weights of an earlier run on the same training set to begin with.

    Args:
      folder: the `checkpoints` of that run.
      trainable: the network; its `init` is replaced.
      train: the training set of that run, whose size the checkpoints depend on.

    Raises:
      InputError: there are no checkpoints, or they are of another network or of a training set of another size.
    """
    recipe = saved_recipe(folder)
    if recipe is None:
        raise InputError(f"no checkpoints in '{folder}': train that network first, or give another start=...")
    with open_checkpoints(folder, recipe) as manager:
        if manager.latest_step() is None:
            raise InputError(
                f"no checkpoint in '{folder}' is finished: train that network first, or give another start=..."
            )
        state = start(trainable, recipe, train)
        shapes = lambda tree: jax.tree.map(lambda leaf: tuple(leaf.shape), tree)
        saved = manager.item_metadata(manager.latest_step()).tree
        if shapes([saved["params"], saved["loss"]]) != shapes([state.params, state.loss]):
            raise InputError(
                f"the checkpoints in '{folder}' are of another network or training set: give another start=..."
            )
        state = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(state))
    return dataclasses.replace(trainable, init=lambda key, images: jax.tree.map(jnp.array, state.average))


def predict(apply: Callable, average: tuple[Params, Params], images: np.ndarray, batch: int = 250) -> np.ndarray:
    """Logits f32[N, K] that `Trainable.apply` gives for uint8[N, H, W, C]; the last batch is padded, so that one
    program serves all.
    """
    padded = np.concatenate([images, np.zeros((-len(images) % batch, *images.shape[1:]), np.uint8)])
    forward = _forward(apply)
    logits = [forward(*average, padded[i : i + batch]) for i in range(0, len(padded), batch)]
    return np.concatenate([np.asarray(part) for part in logits])[: len(images)]


@functools.cache
def _forward(apply: Callable):
    return jax.jit(lambda params, stats, images: apply(params, stats, images.astype(jnp.float32) / 255.0, False)[0])


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3): the mean over predictions of |accuracy - confidence| of
    their bin, with `bins` equal bins of the confidence, the softmax probability of the predicted class.

    >>> calibration_error(np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1]))
    0.0
    """
    confidence = np.asarray(jax.nn.softmax(logits)).max(-1)
    right = logits.argmax(-1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((right[bin_of == b].astype(float) - confidence[bin_of == b]).sum()) for b in range(bins)]
    return float(sum(gaps) / len(labels))


class Interrupted(Exception):
    """Training was stopped by the user; the checkpoint is saved."""


def fit(
    trainable: Trainable,
    train: Dataset,
    test: Dataset,
    recipe: Recipe,
    checkpoints: str | Path | None = None,
    on_step: Callable[[TrainState, int], None] = lambda state, step: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Trains to the end of the recipe, from the newest checkpoint when there is one.

    Args:
      trainable: the network.
      train: the training set; it is copied to the device whole.
      test: evaluated after each epoch with the averaged weights.
      recipe: the hyper-parameters.
      checkpoints: a folder for Orbax checkpoints, written after each epoch and on interruption; None writes none.
      on_step: called with the state and the number of steps done, after every step (not yet finished on the device).
      stop: asked after every step; True saves a checkpoint and raises.

    Raises:
      Interrupted: when `stop` said so.
      InputError: when the sets do not fit each other or the recipe, or the checkpoint belongs to another recipe.
    """
    check_sets(train, test, recipe)
    opened = contextlib.nullcontext() if checkpoints is None else open_checkpoints(checkpoints, recipe)
    with opened as manager:
        return _fit(trainable, train, test, recipe, manager, on_step, stop)


def _fit(trainable, train, test, recipe, manager, on_step, stop) -> TrainState:
    state = start(trainable, recipe, train)
    per_epoch = len(train) // recipe.batch_size
    if manager is not None and manager.latest_step() is not None:
        state = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(state))
    step = {frozen: make_step(trainable, recipe, per_epoch, frozen) for frozen in (True, False)}
    _, order_key, step_key = jax.random.split(jax.random.key(recipe.seed), 3)
    images, labels = jnp.asarray(train.images), jnp.asarray(train.labels)
    order, ordered_epoch = None, -1
    for done in range(int(state.step), recipe.epochs * per_epoch):
        epoch = done // per_epoch
        if epoch != ordered_epoch:
            order, ordered_epoch = epoch_order(order_key, epoch, len(train)), epoch
        state = step[epoch < recipe.frozen_epochs](state, images, labels, order, step_key)
        done += 1
        last = done % per_epoch == 0
        if last:
            state = evaluate_epoch(trainable, state, test, epoch)
        on_step(state, done)
        stopped = stop()
        if manager is not None and (last or stopped):
            manager.save(done, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
        if stopped:
            raise Interrupted(f"stopped after step {done} of {recipe.epochs * per_epoch}")
    return state


def evaluate_epoch(trainable: Trainable, state: TrainState, test: Dataset, epoch: int) -> TrainState:
    """Enters the averaged weights' accuracy on the test set."""
    accuracy = (predict(trainable.apply, state.average, test.images).argmax(-1) == test.labels).mean()
    return dataclasses.replace(state, test_accuracy=state.test_accuracy.at[epoch].set(accuracy))


def check_sets(train: Dataset, test: Dataset, recipe: Recipe) -> None:
    """Raises InputError when the two sets do not fit each other or the recipe."""
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"training images are {train.images.shape[1:]}, test images {test.images.shape[1:]}: use one size"
        )
    if train.names != test.names:
        raise InputError(f"training classes {train.names} differ from test classes {test.names}")
    if len(train) < recipe.batch_size:
        raise InputError(
            f"{len(train)} training images are fewer than one batch of {recipe.batch_size}: "
            "give a smaller recipe.batch_size"
        )


def saved_recipe(folder: str | Path) -> Recipe | None:
    """The recipe that the checkpoints in `folder` were written by; None where there are none."""
    written = Path(folder) / RECIPE_FILE
    return Recipe(**json.loads(written.read_text())) if written.exists() else None


def open_checkpoints(folder: str | Path, recipe: Recipe) -> ocp.CheckpointManager:
    """The two newest checkpoints in `folder`; InputError when they were written by another recipe."""
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if saved_recipe(folder) not in (None, recipe):
        raise InputError(f"'{folder}' holds checkpoints of another recipe: give another out=... or delete that folder")
    (folder / RECIPE_FILE).write_text(json.dumps(dataclasses.asdict(recipe), indent=1))
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    return ocp.CheckpointManager(folder, options=options, item_handlers=ocp.StandardCheckpointHandler())


def finished(trainable: Trainable, state: TrainState, train: Dataset) -> Classifier:
    """The classifier that the averaged weights make, rounded to the half precision in which it is shipped."""
    classifier = trainable.classifier(*state.average, train.names, train.images.shape[1:])
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32), classifier)


def _call(classifier: Classifier, stats: Params, images: Array, train: bool) -> tuple[Array, Params]:
    return classifier(images), stats


def measure(classifier: Classifier, test: Dataset) -> dict[str, float | int | str]:
    """What a card says of a classifier: accuracy and calibration error on the test set, the blank image, the size."""
    logits = predict(_call, (classifier, {}), test.images)
    blank = np.asarray(jax.nn.softmax(classifier(jnp.zeros((1, *test.images.shape[1:])))[0]))
    found = {
        "test images": len(test),
        "test accuracy": float((logits.argmax(-1) == test.labels).mean()),
        "calibration error": calibration_error(logits, test.labels),
        "blank label": test.names[blank.argmax()],
        "blank confidence": float(blank.max()),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(classifier)),
    }
    return found | ({"multiply-adds": cnn.multiply_adds(classifier)} if isinstance(classifier, cnn.CNN) else {})


def card(
    name: str, command: str, recipe: Recipe, data: str, train: Dataset, found: dict, seconds: dict, machine: str
) -> str:
    """A Markdown card of a trained network: data, command, recipe and what was measured."""
    settings = "\n".join(f"| `{key}` | {value} |" for key, value in dataclasses.asdict(recipe).items())
    work = f"\n| multiply-adds, one image | {found['multiply-adds']:,} |" if "multiply-adds" in found else ""
    return f"""# {name}

Trained by `{command}`

| measured | |
| --- | --- |
| test accuracy | {100 * found["test accuracy"]:.2f} % of {found["test images"]:,} images |
| expected calibration error | {100 * found["calibration error"]:.2f} % |
| blank (black) image | {found["blank label"]}, confidence {found["blank confidence"]:.3f} |
| parameters | {found["parameters"]:,} |{work}
| training | {seconds["wall"] / 60:.0f} minutes, {seconds["processor"] / 60:.0f} processor minutes |
| machine | {machine} |

All of it was measured with the weights as stored, in half precision, computing in single precision. Expected calibration
error (Guo et al. 2017): the mean over test images of |accuracy - confidence| of their bin, 15 equal bins of the
confidence, which is the softmax probability of the predicted class.

Data: {data}; {len(train):,} training images of {" x ".join(map(str, train.images.shape[1:]))}, {len(train.names)} classes: {", ".join(train.names)}.

| recipe | |
| --- | --- |
{settings}
"""
