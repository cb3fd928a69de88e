"""3 x 3 convolution as Winograd's minimal filtering F(2 x 2, 3 x 3), for CPUs (Lavin and Gray 2016, arXiv:1509.09308).

Four outputs of a row and column pair take 16 products instead of 36. The tiles of a few images at a time are
transformed, multiplied and transformed back while they lie in the cache: XLA's own convolution and its gradients use
neither trick, and most of their time on a CPU goes into memory. The first layer of a network sees few channels and is
a sum over them (`convolution.narrow`); accelerators and other small kernels keep the library's convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from evomask.classifiers.convolution import direct, narrow
from evomask.types import Array

# Floats of transformed tiles at once; chosen by measurement on two cores that share 32 MiB of cache.
FORWARD_FLOATS = 2**22
GRADIENT_FLOATS = 3 * 2**20
FEWEST_WEIGHTS = 1024  # of one tap; below, the transforms cost as much as they save, and take longer to compile
FEW_CHANNELS = 4  # of an image; a sum over taps and channels is faster then, if it is
VECTOR = 16  # outputs at a time


@jax.custom_vjp
def convolve(x: Array, kernel: Array) -> Array:
    r"""3 x 3 convolution with zero padding: f32[N, H, W, Cin], f32[3, 3, Cin, Cout] -> f32[N, H, W, Cout].

    Equal to `direct` to about 1e-6 of the largest output. On two CPU cores, with 128 images of 16 x 16 and 64 -> 192
    channels, it took 35 ms where `direct` took 119, and both gradients 93 ms instead of 420:

        python -m timeit -s 'import jax; from evomask.classifiers.winograd import convolve as f  # or direct as f' \
            -s 'x, k, g = map(jax.numpy.ones, ((128, 16, 16, 64), (3, 3, 64, 192), (128, 16, 16, 192)))' \
            -s 'b = jax.jit(lambda x, k, g: jax.vjp(f, x, k)[1](g)); f = jax.jit(f); f(x, k); b(x, k, g)' \
            'jax.block_until_ready(b(x, k, g))  # or f(x, k)'

    >>> convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)))[0, 0, :, 0]
    Array([4., 6., 6., 4.], dtype=float32)
    """
    return jax.lax.platform_dependent(x, kernel, cpu=_on_cpu(kernel), default=direct)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(residual: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = residual
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    on_cpu = _winograd_gradient if _pays(kernel) else _direct_gradient
    gradient = jax.lax.platform_dependent(x, kernel, g, cpu=on_cpu, default=_direct_gradient)
    return convolve(g, turned), gradient


convolve.defvjp(_forward, _backward)


def _on_cpu(kernel: Array) -> Callable[[Array, Array], Array]:
    if _pays(kernel):
        return _winograd
    inputs, outputs = kernel.shape[2:]
    return narrow if inputs <= FEW_CHANNELS and outputs >= VECTOR else direct


def _pays(kernel: Array) -> bool:
    return kernel.shape[2] * kernel.shape[3] >= FEWEST_WEIGHTS


def _direct_gradient(x: Array, kernel: Array, g: Array) -> Array:
    return jax.linear_transpose(lambda k: direct(x, k), kernel)(g)[0]


def _winograd(x: Array, kernel: Array) -> Array:
    num, height, width, _ = x.shape
    transformed = _filters(kernel)
    chunks = _chunks(_even(x), FORWARD_FLOATS, sum(kernel.shape[2:]))
    out = jax.lax.map(lambda images: _outputs(images, transformed), chunks)
    return out.reshape(-1, *out.shape[2:])[:num, :height, :width]


def _winograd_gradient(x: Array, kernel: Array, g: Array) -> Array:
    """The gradient of the kernel, summed over chunks in the space of the transformed filters."""

    def add(total: Array, chunk: Sequence[Array]) -> tuple[Array, None]:
        return total + jnp.einsum("tpc,tpd->tcd", _inputs(chunk[0]), _cotangents(chunk[1])), None

    zero = jnp.zeros((16, *kernel.shape[2:]), x.dtype)
    chunks = [_chunks(_even(images), GRADIENT_FLOATS, sum(kernel.shape[2:])) for images in (x, g)]
    return jax.linear_transpose(_filters, kernel)(jax.lax.scan(add, zero, chunks)[0])[0]


def _outputs(x: Array, transformed: Array) -> Array:
    """The convolution of f32[n, H, W, Cin] with filters f32[16, Cin, Cout]."""
    num, height, width, _ = x.shape
    products = jnp.einsum("tpc,tcd->tpd", _inputs(x), transformed)
    columns = _inverse(products.reshape(4, 4, num, height // 2, width // 2, -1))
    pixels = _inverse(columns.swapaxes(0, 1))  # f32[2, 2, n, H/2, W/2, Cout]: rows, columns of each tile
    return pixels.transpose(2, 3, 0, 4, 1, 5).reshape(num, height, width, -1)


def _inputs(x: Array) -> Array:
    """Overlapping 4 x 4 tiles, transformed: f32[n, H, W, C] -> f32[16, n * H/2 * W/2, C]."""
    _, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = _data([x[:, i : i + height - 1 : 2] for i in range(4)])
    return _data([rows[:, :, :, j : j + width - 1 : 2] for j in range(4)]).reshape(16, -1, channels)


def _cotangents(g: Array) -> Array:
    """The transpose of the last transform: f32[n, H, W, C] -> f32[16, n * H/2 * W/2, C]."""
    rows = _spread([g[:, i::2] for i in range(2)])
    return _spread([rows[:, :, :, j::2] for j in range(2)]).reshape(16, -1, g.shape[-1])


def _filters(kernel: Array) -> Array:
    """f32[3, 3, Cin, Cout] -> f32[16, Cin, Cout]."""
    return _taps(_taps(kernel).swapaxes(0, 1)).reshape(16, *kernel.shape[2:])


# The four transforms of F(2, 3) along one axis, whose places come as items (arXiv:1509.09308, eq. 7). Rows go first,
# then columns, so that the sixteen places of a tile are numbered column by column. Kept apart, each is little code to
# compile.


def _data(d: Sequence[Array]) -> Array:
    return jnp.stack([d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]])


def _taps(k: Sequence[Array]) -> Array:
    return jnp.stack([k[0], 0.5 * (k[0] + k[1] + k[2]), 0.5 * (k[0] - k[1] + k[2]), k[2]])


def _inverse(m: Sequence[Array]) -> Array:
    return jnp.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]])


def _spread(y: Sequence[Array]) -> Array:
    return jnp.stack([y[0], y[0] + y[1], y[0] - y[1], -y[1]])


def _even(x: Array) -> Array:
    """With a last row and column of zeros where their number is odd."""
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def _chunks(x: Array, floats: int, channels: int) -> Array:
    """f32[N, ...] -> f32[chunks, n, ...], the last one filled up with zeros; the tiles of one hold at most `floats`."""
    num, height, width, _ = x.shape
    most = max(floats // (4 * height * width * channels), 1)  # 16 floats for every four pixels
    count = -(-num // 2 ** (most.bit_length() - 1))  # powers of two divide the common batches
    size = -(-num // count)
    x = jnp.pad(x, ((0, count * size - num), (0, 0), (0, 0), (0, 0)))
    return x.reshape(count, size, *x.shape[1:])
