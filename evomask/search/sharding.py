"""Many devices share the images of a chunk, or the population of each; many processes, on one host or several, each
explain images of their own.

    mesh = sharding.images_mesh()                                     # every device of this process
    found = evomask.explain(classifier, images, key=key, mesh=mesh)   # the same bits as without

Where there are fewer images than devices, `images_mesh(population=4)` lets four devices share the batches that each
population goes through the classifier in. There are as many of these as the search's `batch_size` makes of it; a device
has nothing to do beyond them, and every generation waits for the exchange of the answers, so images are the better
thing to share.

Where a program runs as several processes, each of them calls

    jax.distributed.initialize(shutdown_timeout_seconds=86400)
    rows = sharding.own_rows(len(images))
    found = evomask.explain(classifier, images[rows], key=key, mesh=sharding.images_mesh())
    found = sharding.gather(found, len(images))                       # where all of it fits in memory; or write `found`

No image needs another one, so nothing else is exchanged but arguments and results. The final masks are verified by the
process,
on its first device: many devices are kept busier by a process for each than by one mesh over all of them. JAX ends
every process once one has died, or has waited at its end for the others longer than the timeout above (five minutes if
none is given): shares that write what they find and need no `gather` are safer as programs that know nothing of each
other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from evomask.classifiers.blackbox import BlackBox
from evomask.types import InputError

AXES = IMAGES, POPULATION = "images", "population"


def images_mesh(devices: Sequence[Any] | None = None, *, population: int = 1) -> Mesh:
    """A mesh over these devices, over all of this process where None: `population` of them share each image.

    Raises:
      InputError: `population` does not divide the number of devices.

    >>> images_mesh(jax.local_devices()[:8], population=2).shape["images"]
    4
    """
    grid = np.array(jax.local_devices() if devices is None else devices)
    if population < 1 or len(grid) % population:
        raise InputError(f"population is {population}, with {len(grid)} devices: give a number that divides theirs")
    return Mesh(grid.reshape(-1, population), AXES) if population > 1 else Mesh(grid, AXES[:1])


def ways(mesh: Mesh | None, classifier: Any) -> int:
    """How many ways a chunk of images is split: 1 without a mesh.

    Raises:
      InputError: the mesh has other axes or devices of another process, or the classifier is or holds a `BlackBox`.
    """
    if mesh is None:
        return 1
    if not isinstance(mesh, Mesh) or mesh.axis_names not in (AXES, AXES[:1]):
        axes = f"has the axes {mesh.axis_names}" if isinstance(mesh, Mesh) else f"is a {type(mesh).__name__}"
        raise InputError(f"mesh {axes}: give one that evomask.sharding.images_mesh() makes, with the axis {IMAGES!r}")
    if any(device.process_index != jax.process_index() for device in mesh.devices.flat):
        raise InputError(
            "mesh has devices of another process: give images_mesh(), which has those of this one, and explain the "
            "images that evomask.sharding.own_rows names"
        )
    is_box = lambda node: isinstance(node, BlackBox)
    if any(map(is_box, jax.tree.leaves(classifier, is_leaf=is_box))):
        raise InputError(
            "a BlackBox is called by this process and gains nothing from a mesh: leave mesh out, and let its workers "
            "make several calls at a time"
        )
    return mesh.shape[IMAGES]


def population_axis(mesh: Mesh | None) -> str | None:
    """The axis whose devices share the population of one image, if there is one."""
    return None if mesh is None or POPULATION not in mesh.axis_names else POPULATION


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """The arrays of a pytree, whole on every device of the mesh; without a mesh, as they are."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, P()))


def split(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays [B, ...] with B / ways rows on each device of the mesh; without a mesh, as they are."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, P(IMAGES)))


def over_images(function: Callable, mesh: Mesh | None) -> Callable:
    """`function(*parameters, rows)`, called on each device with its own rows; without a mesh, the function itself.

    Every device runs what one device alone would run for as many rows: no sum is divided, so no bit can change. Devices
    that share a population all do everything but the batches of others, and so agree.

    >>> mesh = images_mesh(jax.local_devices()[:2])
    >>> two_rows_each = over_images(lambda scale, rows: scale * rows[::-1], mesh)
    >>> two_rows_each(10, jax.numpy.arange(4)).tolist()
    [10, 0, 30, 20]
    """
    if mesh is None:
        return function

    def sharded(*args: Any) -> Any:
        specs = (P(),) * (len(args) - 1) + (P(IMAGES),)
        # Where a population is shared all devices get all answers, and else nothing is exchanged: there is nothing for
        # the check of replication to find, and loops would have to be annotated.
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(IMAGES), check_vma=False)(*args)

    return sharded


def own_rows(num: int) -> np.ndarray:
    """int[M], which of `num` images this process explains: every n-th one, where there are n processes.

    Raises:
      InputError: there are fewer images than processes.

    >>> own_rows(3)  # a program that is one process
    array([0, 1, 2])
    """
    if num < jax.process_count():
        raise InputError(
            f"{num} images are too few for {jax.process_count()} processes: start one for each image at most"
        )
    return np.arange(jax.process_index(), num, jax.process_count())


def gather(found: Any, num: int) -> Any:
    """What all processes found for their `own_rows`, in the order of the images, in every process.

    Args:
      found: a pytree of arrays of 32 bits or fewer with one leading row for each of `own_rows(num)`, such as an
        `Explanation`.
      num: images of all processes together.

    Raises:
      InputError: `found` has another number of rows.
    """
    own, processes = own_rows(num), jax.process_count()
    wrong = {len(field) for field in jax.tree.leaves(found)} - {len(own)}
    if wrong:
        raise InputError(
            f"found has {wrong.pop()} rows, this process has {len(own)} of {num} images: give its own_rows({num})"
        )
    most = -(-num // processes)  # all processes must give equally many
    filled = np.minimum(np.arange(most), len(own) - 1)
    places = np.arange(num) % processes * most + np.arange(num) // processes

    def whole(field: Any) -> np.ndarray:
        return multihost_utils.process_allgather(np.asarray(field)[filled], tiled=True)[places]

    return jax.tree.map(whole, found)
