"""Strict JAX for every test: no silent promotion, no silent broadcasting, eight virtual devices, warnings are errors."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
