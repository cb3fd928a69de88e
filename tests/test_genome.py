"""Patches to masks against a plain loop, and sampling against the distributions that it promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomask.search import genome
from evomask.types import InputError

SHAPES = [(6, 6), (5, 9), (9, 4), (1, 7)]
GENES = 4

shapes = st.sampled_from(SHAPES)
# Centres may lie outside of the image, radii may be off (negative) or larger than it.
genes = st.lists(
    st.tuples(st.integers(-4, 12), st.integers(-4, 12), st.integers(-2, 12)), min_size=GENES, max_size=GENES
)

rasterize = jax.jit(genome.rasterize, static_argnums=1)
coverage = jax.jit(genome.coverage, static_argnums=1)
space = jax.jit(genome.space)
decode = jax.jit(genome.decode)


def counts(patches, shape):
    """The definition, pixel by pixel: int[H, W]."""
    result = np.zeros(shape, int)
    for row in range(shape[0]):
        for col in range(shape[1]):
            for centre_row, centre_col, radius in patches:
                if radius >= 0 and max(abs(row - centre_row), abs(col - centre_col)) <= radius:
                    result[row, col] += 1
    return result


@given(genes, shapes)
def test_coverage_and_mask_equal_a_plain_loop(patches, shape):
    expected = counts(patches, shape)
    found = coverage(jnp.array(patches, jnp.int32), shape)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)
    mask = rasterize(jnp.array(patches, jnp.int32), shape)
    assert mask.dtype == jnp.bool_
    np.testing.assert_array_equal(mask, expected > 0)


@given(st.lists(genes, min_size=2, max_size=2), shapes)
def test_leading_axes_are_a_population(population, shape):
    stacked = jnp.array(population, jnp.int32)
    expected = np.stack([counts(patches, shape) > 0 for patches in population])
    np.testing.assert_array_equal(rasterize(stacked, shape), expected)
    np.testing.assert_array_equal(rasterize(stacked[None], shape), expected[None])


def test_a_patch_near_the_corner_is_clipped_not_shifted():
    mask = genome.rasterize(jnp.array([[1, 1, 3]]), (8, 8))  # the published code begins it at row abs(1 - 3) = 2
    np.testing.assert_array_equal(mask, np.pad(np.ones((5, 5), bool), (0, 3)))


@pytest.mark.parametrize("radius", [-1, -2, genome.OFF])
def test_a_negative_radius_switches_off(radius):
    gene = jnp.array([[2, 2, radius]])
    assert not genome.rasterize(gene, (5, 5)).any()
    assert genome.is_active(gene).tolist() == [False]
    assert genome.is_active(gene.at[0, 2].set(0)).tolist() == [True]


@given(genes, shapes)
def test_area_is_the_exact_fraction(patches, shape):
    expected = counts(patches, shape) > 0
    found = genome.area(jnp.asarray(expected))
    assert found.dtype == jnp.float32
    assert float(found) == np.float32(expected.sum()) / np.float32(expected.size)


def test_area_counts_more_pixels_than_a_half_precision_float_can():
    mask = np.ones((1, 300, 300), bool)
    mask[0, 0, 0] = False
    assert float(genome.area(mask)[0]) == np.float32(89_999) / np.float32(90_000)


@given(
    st.sampled_from(SHAPES[:2]).flatmap(
        lambda shape: st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
            lambda flat: np.array(flat).reshape(shape)
        )
    ),
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True, width=32), st.floats(0, 1, exclude_max=True, width=32)),
        min_size=6,
        max_size=6,
    ),
)
def test_decoded_genes_lie_in_the_region_with_radii_of_the_list(region, draws):
    radii = jnp.array([2, 5, 7])
    found = np.asarray(decode(jnp.array(draws, jnp.float32), space(jnp.asarray(region), radii)))
    assert found.dtype == np.int32 and found.shape == (6, 3)
    allowed = region if region.any() else np.ones_like(region)
    assert allowed[found[:, 0], found[:, 1]].all()
    expected = np.array([2, 5, 7])[(np.array([d[1] for d in draws], np.float32) * 3).astype(int).clip(0, 2)]
    np.testing.assert_array_equal(found[:, 2], expected)


def test_an_empty_region_counts_as_whole():
    empty, whole = (space(jnp.full((3, 4), inside), jnp.array([1])) for inside in (False, True))
    jax.tree.map(np.testing.assert_array_equal, empty, whole)


def test_samples_follow_region_density_and_radii():
    num = 12_000
    density = jnp.array([[1.0, 0.0, 3.0], [0.0, 2.0, 9.0]])
    region = jnp.array([[True, True, True], [True, True, False]])  # the density 9 lies outside
    found = genome.sample(jax.random.key(0), genome.space(region, jnp.array([1, 4]), density), num)
    counted = np.zeros((2, 3))
    np.add.at(counted, (found[:, 0], found[:, 1]), 1)
    probability = np.array([[1, 0, 3], [0, 2, 0]]) / 6
    sigma = np.sqrt(probability * (1 - probability) / num)
    assert (np.abs(counted / num - probability) <= 4 * sigma).all()
    assert abs(float((found[:, 2] == 4).mean()) - 0.5) < 4 * np.sqrt(0.25 / num)


def test_a_density_that_is_zero_in_the_region_falls_back_to_uniform():
    region = jnp.array([[True, False, True]])
    found = genome.space(region, jnp.array([1]), jnp.array([[0.0, 5.0, 0.0]]))
    np.testing.assert_allclose(found.cumulative, [0.5, 0.5, 1.0])


@given(st.floats(0, 1, exclude_max=True, width=32), st.integers(1, 70_000))
def test_pick_is_within_bounds_and_monotone(draw, num):
    pick = functools.partial(genome.pick, num=num)
    found = int(pick(jnp.float32(draw)))
    assert 0 <= found < num
    assert found == min(int(np.float32(draw) * np.float32(num)), num - 1)
    assert int(pick(jnp.float32(np.nextafter(np.float32(1), np.float32(0))))) == num - 1


@pytest.mark.parametrize(
    "radii, shape, expected",
    [
        ((30, 35, 40), (224, 224), [30, 35, 40]),
        ((0.5, 0.1), (20, 10), [5, 1]),
        ((0.01,), (8, 8), [0]),  # one pixel: the smallest patch there is
        ((1, 7), (8, 100), [1, 7]),
    ],
)
def test_radii_in_pixels_or_fractions_of_the_shorter_side(radii, shape, expected):
    found = genome.scale_radii(radii, shape)
    assert found.dtype == np.int32 and found.tolist() == expected


@pytest.mark.parametrize("radius", [0, -1, 8, 8.5, 100, float("nan")])
def test_a_radius_that_does_not_fit_is_refused(radius):
    with pytest.raises(
        InputError, match=r"^radius .* does not fit an image of 8 x 12 pixels: give pixels from 1 to 7, or"
    ):
        genome.scale_radii((2, radius), (8, 12))


def test_no_radii_are_refused():
    with pytest.raises(InputError, match="^radii is empty: give at least one"):
        genome.scale_radii((), (8, 8))


@given(st.integers(0, 2**32 - 1))
def test_a_boundary_is_counted_side_by_side(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, 9, 2)
    mask = rng.random((height, width)) < rng.random()
    sides = sum(
        mask[row, col] != mask[r, c]
        for row in range(height)
        for col in range(width)
        for r, c in ((row + 1, col), (row, col + 1))
        if r < height and c < width
    )
    assert float(genome.boundary(jnp.asarray(mask))) == pytest.approx(sides / (2 * (height + width)))
