"""Strict JAX for every test: no silent promotion, no silent broadcasting, eight virtual devices, warnings are errors.

Warnings become errors in pyproject.toml (`filterwarnings`), and Hypothesis draws the same examples in every run.
"""

import os
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the programs, see `settings.one_blas_thread`; read by NumPy

# Tests compile for longer than they run. With few of LLVM's optimizations (and without XLA's fusion emitters, as in the
# programs) a search compiles in half of the time and runs as fast. The environment is for processes of the tests, too.
FEW = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{FEW} {os.environ.get('XLA_FLAGS', '')}".strip()

# What one test compiled is read by those after it, in whatever process, and gone in the end.
if "PYTEST_XDIST_WORKER" not in os.environ:
    PROGRAMS = tempfile.TemporaryDirectory(prefix="evomask-tests-")
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": PROGRAMS.name, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}

import hypothesis
import jax
import pytest

from evomask.settings import collect_rarely, tune_compiler

collect_rarely()  # as in the programs
tune_compiler()

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a test compiles, so a deadline per example would be a race.
hypothesis.settings.register_profile("evomask", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("evomask")


def pytest_collection_modifyitems(items):
    """The files that take minutes come first, so that no process of several waits for another's at the end."""
    long = ["test_notebooks.py", "test_pages.py", "test_cluster.py", "test_recipes.py", "test_benchmark.py"]
    items.sort(key=lambda item: item.path.name not in long)  # stable


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Compiled programs hold memory maps, of which a process has only so many: each module gives its own back."""
    yield
    jax.clear_caches()
