"""Training on device: one jitted step holds batching, augmentation, loss, update and weight averaging.

The training set lives on the device as `uint8`. Everything random derives from a key and the number of the step or of
the epoch, and the state carries the whole loss curve; a run that is interrupted and resumed from its checkpoint
therefore repeats the uninterrupted one bit for bit on the same machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from evomask.data import Dataset
from evomask.training.augmentation import augment, mix, mixup_shares
from evomask.training.checkpoints import newest, open_checkpoints, save, saved_recipe
from evomask.training.networks import Trainable
from evomask.training.recipe import Params, Recipe, make_optimizer
from evomask.types import Array, InputError, Key, record

if TYPE_CHECKING:
    import orbax.checkpoint as ocp


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
        state = newest(manager, state)
    return dataclasses.replace(trainable, init=lambda key, images: jax.tree.map(jnp.array, state.average))


def predict(apply: Callable, average: tuple[Params, Params], images: np.ndarray, batch: int = 250) -> np.ndarray:
    """Logits f32[N, K] that `Trainable.apply` gives for uint8[N, H, W, C]; the last batch is padded, so that one
    program serves all.
    """
    batch = min(batch, len(images))
    padded = np.concatenate([images, np.zeros((-len(images) % batch, *images.shape[1:]), np.uint8)])
    forward = _forward(apply)
    logits = [forward(*average, padded[i : i + batch]) for i in range(0, len(padded), batch)]
    return np.concatenate([np.asarray(part) for part in logits])[: len(images)]


@functools.cache
def _forward(apply: Callable):
    return jax.jit(lambda params, stats, images: apply(params, stats, images.astype(jnp.float32) / 255.0, False)[0])


class Interrupted(Exception):
    """Training was stopped by the user; the checkpoint is saved."""


class Diverged(InputError):
    """Loss or weights are no longer finite: the recipe does not suit the set. The last good checkpoint is kept."""


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
      Diverged: when loss or weights were not finite at the end of an epoch. Nothing of that epoch is saved; the newest
        checkpoint is that of the epoch before.
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
        state = newest(manager, state)
    seedless = dataclasses.replace(recipe, seed=0)  # the step takes its key: another seed compiles nothing
    step = {frozen: make_step(trainable, seedless, per_epoch, frozen) for frozen in (True, False)}
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
        if last or stopped:
            check_finite(state, recipe, epoch, manager)
        if manager is not None and (last or stopped):
            save(manager, done, state)
        if stopped:
            raise Interrupted(f"stopped after step {done} of {recipe.epochs * per_epoch}")
    return state


def check_finite(state: TrainState, recipe: Recipe, epoch: int, manager: ocp.CheckpointManager | None = None) -> None:
    """Raises Diverged when the losses so far or the weights are not all finite; `epoch` counts from zero."""
    loss = np.asarray(state.loss[: int(state.step)])
    if not np.isfinite(loss).all():
        first = int(np.argmin(np.isfinite(loss)))
        found = f"the loss of step {first + 1} is {loss[first]}"
    elif not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get((state.params, state.average)))):
        found = f"after step {len(loss)} the weights are not finite"
    else:
        return
    saved = None if manager is None else manager.latest_step()
    kept = "no checkpoint is kept" if saved is None else f"'{manager.directory}' keeps the checkpoint of step {saved}"  # pyright: ignore[reportOptionalMemberAccess]
    raise Diverged(f"training diverged in epoch {epoch + 1} of {recipe.epochs}: {found}; {remedy(recipe)} ({kept})")


def remedy(recipe: Recipe | None) -> str:
    """What to change in a recipe that diverges."""
    if recipe is None:
        return "lower the learning rate"
    names = ("learning_rate", *(["kernel_rate"] if recipe.optimizer == "muon" else []))
    rates = " and ".join(f"recipe.{name} (now {getattr(recipe, name)})" for name in names)
    return f"lower {rates} or raise recipe.warmup (now {recipe.warmup}), and give another out=..."


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
    height, width = train.images.shape[1:3]
    if recipe.pad >= min(height, width):
        raise InputError(f"recipe.pad is {recipe.pad} for images of {height} x {width} pixels: give a smaller one")
    if len(train) < recipe.batch_size:
        raise InputError(
            f"{len(train)} training images are fewer than one batch of {recipe.batch_size}: "
            "give a smaller recipe.batch_size"
        )
