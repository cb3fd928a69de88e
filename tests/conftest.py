"""Strict JAX for every test: no silent promotion, no silent broadcasting, eight virtual devices, warnings are errors.

Warnings become errors in pyproject.toml (`filterwarnings`), and Hypothesis draws the same examples in every run.
"""

import hypothesis
import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a test compiles, so a deadline per example would be a race.
hypothesis.settings.register_profile("evomask", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("evomask")
