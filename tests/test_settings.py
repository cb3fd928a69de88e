"""What a user sets for all of JAX and NumPy changes no explanation."""

import contextlib
import functools
import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import oracles
import pytest
import scipy.linalg  # noqa: F401 (an OpenBLAS of its own)
import threadpoolctl

import evomask
from evomask import operators, settings
from evomask.baselines import RISE
from evomask.measures import metrics
from evomask.search import fitness
from evomask.search.config import Config

SETTINGS = {
    "64 bits": lambda: jax.enable_x64(True),
    "NaN is an error": lambda: jax.debug_nans(True),
    "other random bits": lambda: jax.threefry_partitionable(False),
    "keys are used once": lambda: jax.debug_key_reuse(True),
    "nothing is copied unasked": lambda: jax.transfer_guard("disallow"),
    "NumPy raises": lambda: np.errstate(all="raise"),
}
CONFIG = Config(
    stages=(evomask.Stage("only", population=6, genes=2, radii=(1, 2), generations=8),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)
ORACLE, IMAGE = oracles.BoxOracle(), oracles.lit((2, 4, 4, 4), 8, 8)[None]
LINEAR = oracles.linear(jax.random.key(0), 8, 8)


def everything(classifier=ORACLE):
    """What the public functions say: they share one compiled search."""
    found = evomask.explain(classifier, IMAGE, key=0, config=CONFIG)
    several = evomask.several(classifier, IMAGE, 2, key=0, config=CONFIG)
    stable, _ = evomask.across_seeds(classifier, IMAGE, 2, key=0, config=CONFIG)
    proof = evomask.certify(classifier, IMAGE, found, key=0, config=CONFIG)
    streamed = list(evomask.explain_stream(classifier, IMAGE, key=0, config=CONFIG))
    heat = RISE()(classifier, IMAGE, [1], key=0, budget=8)
    auc = metrics.insertion_auc(classifier, IMAGE, [1], found.score, 0 * IMAGE, steps=4)
    return jax.tree.leaves(jax.device_get((found, several, stable, proof, streamed, heat, auc)))


@functools.cache
def usual():
    return everything()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_public_function_says_the_same_under_it(setting):
    wanted = usual()
    with SETTINGS[setting]():
        found = everything()
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_64_bits_are_used_in_32():
    wanted = evomask.explain(LINEAR, IMAGE, key=0, config=CONFIG)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), LINEAR)
        found = evomask.explain(wide, IMAGE, key=0, config=CONFIG)
    np.testing.assert_array_equal(found.mask, wanted.mask)
    np.testing.assert_array_equal(found.confidence, wanted.confidence)


def test_a_black_box_computes_in_the_precision_of_its_user():
    seen = set()

    def predict(images):
        seen.add(jax.config.jax_enable_x64)
        return np.stack([0 * images.mean((1, 2, 3)), 20 * images[:, 2:6, 4:8].mean((1, 2, 3)) - 10], axis=-1)

    with jax.enable_x64(True):
        evomask.explain(evomask.BlackBox(predict, 2), IMAGE, key=0, config=CONFIG)
    assert seen == {True}


def test_the_settings_come_back():
    with jax.enable_x64(True), contextlib.suppress(KeyError):
        with settings.own():
            assert jnp.ones(1).dtype == jnp.float32
            with settings.own(), settings.users():
                assert jnp.ones(1).dtype == jnp.float64
            raise KeyError
    assert jnp.ones(1).dtype == jnp.float32 and not hasattr(settings._outside, "x64")


def test_openblas_has_one_thread_while_a_search_runs_and_its_own_again_afterwards():
    threads = lambda: {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
    seen = []

    def look(images):
        seen.append((len(images), threads()))
        return np.ones((len(images), 2), np.float32) * [3, 0]

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        evomask.explain(evomask.BlackBox(look, 2), np.ones((1, 8, 8, 1)), key=0, config=evomask.presets.smallest(250))
        assert threads() == {2}
    assert [found for num, found in seen if num > 1] and all(found == {1} for num, found in seen if num > 4)


KEEPS = """
import resource
import numpy as np
from evomask import settings

faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
kept = settings.reuse_memory()
for _ in range(3):
    before = faults()
    np.ones(2**24)  # 128 MiB
print(kept, faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets an option of glibc")
@pytest.mark.parametrize("wanted", ["true", "false"])
def test_memory_that_was_freed_is_used_again(wanted):
    environment = os.environ | {"EVOMASK_REUSE_MEMORY": wanted}
    said = subprocess.run([sys.executable, "-c", KEEPS], env=environment, capture_output=True, text=True, check=True)
    kept, faults = said.stdout.split()
    assert kept == str(wanted == "true") and (int(faults) < 100 if wanted == "true" else int(faults) >= 64), said


@pytest.mark.parametrize("version, added", [("0.10.2", " ".join(settings.COMPILER) + " "), ("0.12.0", "")])
def test_the_users_flags_of_xla_come_last_and_unknown_ones_are_not_given(monkeypatch, version, added):
    monkeypatch.setattr(jaxlib.version, "__version__", version)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=true")
    settings.tune_compiler()
    assert os.environ["XLA_FLAGS"] == f"{added}--xla_cpu_use_fusion_emitters=true"
