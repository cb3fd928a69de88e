"""The same bits on one device or many, in one process or two; and a mesh that cannot be used is refused by name."""

import dataclasses
import functools
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import evomask
from evomask import operators
from evomask.search import fitness, sharding
from evomask.search.batching import in_batches
from evomask.search.config import Config
from evomask.types import InputError
from experiments.shared.compiling import compile_seconds
from experiments.tools import cluster

TESTS = pathlib.Path(__file__).parent
KEY = jax.random.key(5)
IMAGES = oracles.conv_images(num=5, side=8)
CONFIG = Config(
    stages=(evomask.Stage("only", population=6, genes=3, radii=(1, 2), generations=7),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)
COST = CONFIG.evaluations


def explain(images=IMAGES, **options):
    return evomask.explain(oracles.conv(), images, **{"key": KEY, "config": CONFIG} | options)


def mesh_of(num):
    return sharding.images_mesh(jax.devices()[:num])


@functools.cache
def alone():
    """Without a mesh."""
    return explain()


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# -------------------------------------------------------------------------------------------------------- one process


@pytest.mark.parametrize("num", [1, 2, 4, 8])
def test_the_same_bits_on_any_number_of_devices_and_a_second_call_compiles_nothing(num):
    expected = alone()
    mesh = jax.make_mesh((4,), ("images",), devices=jax.devices()[:4]) if num == 4 else mesh_of(num)
    evomask.precompile(oracles.conv(), IMAGES, config=CONFIG, mesh=mesh)
    with compile_seconds() as compiled:
        found = explain(mesh=mesh)
        backwards = explain(mesh=mesh, images=IMAGES[::-1].copy())
    assert not compiled
    assert_same(found, expected)
    assert_same(backwards, jax.tree.map(lambda field: field[::-1], expected))
    assert len(np.unique(expected.score, axis=0)) == 5  # the images differ in what is found


def test_every_device_has_rows_of_its_own_and_all_of_the_parameters():
    mesh = mesh_of(4)
    rows = sharding.split(np.arange(8), mesh)
    assert [shard.data.tolist() for shard in rows.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert len({shard.device for shard in rows.addressable_shards}) == 4
    weights = sharding.replicate(oracles.conv(), mesh)
    assert all(len(leaf.devices()) == 4 and leaf.is_fully_replicated for leaf in jax.tree.leaves(weights))

    @jax.jit
    def where(rows):
        return sharding.over_images(lambda rows: rows + 10 * jax.lax.axis_index("images"), mesh)(rows)

    assert where(rows).tolist() == [0, 1, 12, 13, 24, 25, 36, 37]


@pytest.mark.parametrize(("devices", "population"), [(8, 4), (3, 3)])
def test_devices_that_share_a_population_find_the_same_bits(devices, population):
    config = dataclasses.replace(CONFIG, batch_size=3)  # 12 images a generation, so four batches
    mesh, told = sharding.images_mesh(jax.devices()[:devices], population=population), []
    found = explain(mesh=mesh, config=config, progress=lambda *figures: told.append(figures))
    assert_same(found, explain(config=config))
    assert told[-1] == (5 * COST, 5 * COST)  # every generation is counted once, not on each device


def test_the_batches_of_a_population_are_dealt_out():
    mesh = sharding.images_mesh(jax.devices()[:4], population=4)

    @jax.jit
    def who(numbers):
        device = lambda call: call + 100 * jax.lax.axis_index("population")
        return sharding.over_images(lambda rows: in_batches(device, rows, 2, "population"), mesh)(numbers)

    assert who(jnp.arange(13)).tolist() == [
        0,
        1,
        2,
        3,
        104,
        105,
        106,
        107,
        208,
        209,
        210,
        211,
        312,
    ]  # seven calls, two each
    with pytest.raises(InputError, match="population is 3, with 4 devices: give a number that divides theirs"):
        sharding.images_mesh(jax.devices()[:4], population=3)


def test_several_masks_are_the_same_on_a_mesh():
    options = dict(key=KEY, config=CONFIG)
    found = evomask.several(oracles.conv(), IMAGES, 2, mesh=mesh_of(8), **options)
    assert_same(found.explanations[0], alone())
    assert_same(found.explanations[1], evomask.several(oracles.conv(), IMAGES, 2, **options).explanations[1])


def test_weights_may_lie_on_a_device_of_their_own():
    there = jax.device_put(oracles.conv(), jax.devices()[3])
    found = evomask.explain(there, IMAGES, key=jax.device_put(KEY, jax.devices()[3]), config=CONFIG, mesh=mesh_of(2))
    assert_same(found, alone())


def test_progress_counts_images_and_not_what_fills_the_devices_up():
    told = []
    found = explain(mesh=mesh_of(2), progress=lambda *figures: told.append(figures))  # 2, 2 and 1 of two
    assert_same(found, alone())
    done, total = zip(*told)
    assert set(total) == {5 * COST} and done[-1] == 5 * COST and list(done) == sorted(set(done))


def test_a_stream_hands_out_the_same_bits_on_many_devices():
    twice = iter([*IMAGES, *IMAGES])  # 8 and 2
    found = evomask.explain_stream(oracles.conv(), twice, key=KEY, config=CONFIG, mesh=mesh_of(8))
    found = jax.tree.map(lambda *rows: np.stack(rows), *found)
    assert_same(found, jax.tree.map(lambda field: np.concatenate([field, field]), alone()))


BOX = evomask.BlackBox(lambda images: images.mean((1, 2)), 3)
BAD = {
    "other axis": (
        dict(mesh=jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])),
        r"mesh has the axes \('data',\): give one that",
    ),
    "two axes": (
        dict(mesh=jax.make_mesh((1, 1), ("images", "model"))),
        r"mesh has the axes \('images', 'model'\): give one that",
    ),
    "devices": (
        dict(mesh=jax.devices()),
        r"mesh is a list: give one that evomask.sharding.images_mesh\(\) makes, with the axis 'images'",
    ),
    "black box": (dict(mesh=mesh_of(2), classifier=BOX), "BlackBox is called by this process .* leave mesh out"),
    "held box": (
        dict(mesh=mesh_of(2), classifier=evomask.as_classifier((lambda box, images: box(images), BOX))),
        "BlackBox is called by this process .* leave mesh out",
    ),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("function", [evomask.explain, evomask.explain_stream, evomask.precompile])
def test_a_mesh_that_cannot_be_used_is_refused_before_anything_is_compiled(function, bad):
    options, message = BAD[bad]
    key = {} if function is evomask.precompile else {"key": KEY}
    arguments = {"classifier": oracles.conv(), "images": IMAGES, "config": CONFIG} | key | options
    with compile_seconds() as compiled, pytest.raises(InputError, match=message) as caught:
        function(**arguments)
    assert not compiled and "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------- two processes


# Importing evomask must not start JAX's backends, which have to know of the other process.
PROCESS = """
import jax, evomask
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize("{}", {}initialization_timeout=300)
import test_sharding
test_sharding.explain_share("{}")
"""


def explain_share(folder):
    """What each of two processes does, in its own interpreter."""
    process = jax.process_index()
    assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 2, 4)
    rows, mesh = sharding.own_rows(len(IMAGES)), sharding.images_mesh()
    assert rows.tolist() == list(range(process, 5, 2)) and mesh.size == 2  # three images here, two there
    with pytest.raises(InputError, match="mesh has devices of another process: give images_mesh"):
        explain(mesh=sharding.images_mesh(jax.devices()))
    with pytest.raises(InputError, match="1 images are too few for 2 processes"):
        sharding.own_rows(1)
    found = sharding.gather(explain(IMAGES[rows], mesh=mesh), len(IMAGES))
    np.savez(pathlib.Path(folder) / f"{process}.npz", *jax.tree.leaves(found))
    jax.distributed.shutdown()


@pytest.fixture
def address():
    """Where the first of several processes listens."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}


def test_two_processes_find_what_one_finds(tmp_path, address):
    numbered = "num_processes=2, process_id={}, "
    scripts = [PROCESS.format(address, numbered.format(process), tmp_path) for process in range(2)]
    options = dict(env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    processes = [subprocess.Popen([sys.executable, "-c", script], **options) for script in scripts]
    try:
        said = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()  # one whose partner has died would wait for it
    assert [process.returncode for process in processes] == [0, 0], said
    both_found_what_one_finds(tmp_path)


@pytest.mark.skipif(bool(cluster.missing()), reason="needs SLURM (slurm-wlm, munge) and root")
def test_slurm_says_which_process_is_which(tmp_path, address):
    """The address is given, since the names of these nodes are no names of hosts."""
    with cluster.running(tmp_path / "slurm") as conf:
        command = ["srun", "--nodes=2", "--ntasks=2", sys.executable, "-c", PROCESS.format(address, "", tmp_path)]
        environment = ENVIRONMENT | {"SLURM_CONF": str(conf)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    both_found_what_one_finds(tmp_path)


def both_found_what_one_finds(folder):
    expected = jax.tree.leaves(alone())
    for process in range(2):
        with np.load(folder / f"{process}.npz") as file:
            gathered = list(file.values())
        assert len(gathered) == len(expected)
        for field, one in zip(gathered, expected, strict=True):
            assert field.dtype == one.dtype
            np.testing.assert_array_equal(field, one)


def test_gather_in_one_process_is_the_order_of_the_images():
    assert sharding.own_rows(5).tolist() == [0, 1, 2, 3, 4]
    assert_same(sharding.gather(alone(), 5), alone())
    with pytest.raises(InputError, match=r"found has 5 rows, this process has 4 of 4 images: give its own_rows\(4\)"):
        sharding.gather(alone(), 4)
