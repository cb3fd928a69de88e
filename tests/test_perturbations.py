"""Each perturbation against its definition, the draws against their distribution, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evomask
from evomask import fills, perturbations
from evomask.perturbations import Brightness, Fills, Gaussian, Perturbations, Shift, Showing
from evomask.types import InputError

KEY = jax.random.key(0)
IMAGE = np.random.default_rng(0).uniform(size=(7, 9, 3)).astype(np.float32)
BLANK = np.random.default_rng(1).uniform(size=(7, 9, 3)).astype(np.float32)
KEYS = jax.random.split(KEY, 400)


def many(*parts, image=IMAGE, blank=BLANK):
    """400 showings."""
    drawn = Perturbations(parts)
    return jax.device_get(jax.jit(jax.vmap(lambda key: drawn(key, image, blank)))(KEYS))


def moved(image, rows, cols, most=4):
    """By NumPy's own padding; rows down and columns right, on the first two axes."""
    padded = np.pad(image, [(most, most)] * 2 + [(0, 0)] * (image.ndim - 2), mode="edge")
    return padded[most - rows : most - rows + image.shape[0], most - cols : most - cols + image.shape[1]]


@pytest.mark.parametrize(("fraction", "most"), [(0.02, 1), (0.3, 2)])
def test_shift_moves_picture_blank_and_mask_together_by_every_step_up_to_the_fraction(fraction, most):
    seen, mask = many(Shift(fraction)), IMAGE[..., 0] > 0.5
    steps = {tuple(shift.tolist()) for shift in seen.shift}
    assert steps == {(rows, cols) for rows in range(-most, most + 1) for cols in range(-most, most + 1)}
    for index in range(20):
        shift = seen.shift[index]
        np.testing.assert_array_equal(seen.image[index], moved(IMAGE, *shift))
        np.testing.assert_array_equal(seen.blank[index], moved(BLANK, *shift))
        np.testing.assert_array_equal(perturbations.move(mask, shift), moved(mask, *shift))


def test_shift_of_two_percent_is_of_the_shorter_side_and_rounded_down():
    for side, most in [(10, 1), (99, 1), (100, 2), (224, 4)]:
        image = jnp.zeros((side, side + 60, 1))
        shift = jax.vmap(lambda key, image=image: Shift()(key, Showing(image, image, jnp.zeros(2, int))).shift)(KEYS)
        assert (shift.min(), shift.max()) == (-most, most), side


def test_brightness_is_one_uniform_factor_for_all_pixels():
    seen = many(Brightness(0.2), image=0.5 * np.ones_like(IMAGE))
    factors = 2 * seen.image[:, 0, 0, 0]
    np.testing.assert_array_equal(seen.image, np.broadcast_to(seen.image[:, :1, :1, :1], seen.image.shape))
    assert 0.8 <= factors.min() < 0.81 and 1.19 < factors.max() <= 1.2
    assert abs(factors.mean() - 1) < 4 * 0.4 / np.sqrt(12 * 400)
    np.testing.assert_array_equal(seen.blank, np.broadcast_to(BLANK, seen.blank.shape))
    assert many(Brightness(0.2), image=np.ones_like(IMAGE)).image.max() == 1


def test_noise_is_independent_with_a_drawn_deviation_and_clipped():
    size = (32, 32, 3)
    grey = jnp.full(size, 0.5)
    noise = np.asarray(many(Gaussian(0.02), image=grey, blank=grey).image) - 0.5
    drawn, values = noise.std(axis=(1, 2, 3)), np.prod(size)
    assert drawn.min() < 0.0005 and 0.0195 < drawn.max() < 0.02 * (1 + 4 / np.sqrt(2 * values))
    assert abs(drawn.mean() - 0.01) < 4 * 0.02 / np.sqrt(12 * 400)  # uniform from 0
    assert abs(drawn.std() - 0.02 / np.sqrt(12)) < 4 * 0.02 / np.sqrt(12 * 2 * 400)
    standard = noise / drawn[:, None, None, None]
    assert abs(standard.mean()) < 4 / np.sqrt(noise.size) and abs(np.mean(standard**4) - 3) < 0.05
    neighbours = np.mean(standard[:, :, 1:] * standard[:, :, :-1])
    assert abs(neighbours) < 4 / np.sqrt(noise.size)
    dark = many(Gaussian(0.02), image=np.zeros_like(IMAGE)).image
    assert dark.min() == 0 and abs((dark > 0).mean() - 0.5) < 0.02


def test_fills_are_drawn_by_their_weights():
    three = tuple(fills.Constant(value) for value in (0.0, 0.5, 1.0))
    values, counts = np.unique(many(Fills(three, [1.0, 0.0, 3.0])).blank[:, 0, 0, 0], return_counts=True)
    assert values.tolist() == [0, 1] and abs(counts[1] - 300) < 4 * np.sqrt(400 * 0.25 * 0.75)
    assert Fills(three).weights == (1.0, 1.0, 1.0)
    assert set(np.unique(many(Fills(three)).blank[:, 0, 0, 0])) == {0, 0.5, 1}


def test_fills_that_come_first_are_made_of_the_picture_as_it_is_and_moved_with_it():
    seen = many(Fills((fills.Blur(0.1),)), Shift(0.2))
    blurred = np.asarray(fills.blank(fills.Blur(0.1), KEY, IMAGE))
    for index in range(5):
        np.testing.assert_allclose(seen.blank[index], moved(blurred, *seen.shift[index]), atol=1e-6)


@pytest.mark.parametrize("name", perturbations.SHIPPED)
def test_the_same_key_gives_the_same_bits_compiled_or_not(name):
    drawn, mask = perturbations.named(name), np.stack([BLANK[..., 0] > 0.5] * 2)
    plain = drawn(KEYS[3], IMAGE, BLANK)

    @jax.jit
    def inside(key, image, blank):
        return (shown := drawn(key, image, blank)), perturbations.render(shown, mask)

    compiled = inside(KEYS[3], IMAGE, BLANK)
    several = jax.jit(jax.vmap(drawn, (0, None, None)))(KEYS[:5], IMAGE, BLANK)
    jax.tree.map(np.testing.assert_array_equal, plain, compiled[0])
    for index in range(5):
        together = jax.tree.map(lambda field, index=index: field[index], several)
        jax.tree.map(np.testing.assert_array_equal, drawn(KEYS[index], IMAGE, BLANK), together)
    np.testing.assert_array_equal(compiled[1], perturbations.render(plain, mask))
    assert [field.dtype for field in vars(plain).values()] == [jnp.float32, jnp.float32, jnp.int32]
    assert 0 <= min(plain.image.min(), plain.blank.min()) and max(plain.image.max(), plain.blank.max()) <= 1


def test_floats_are_leaves():
    before = perturbations._draw._cache_size()
    for amount in (0.1, 0.2, 0.3):
        Perturbations((Shift(amount), Gaussian(amount / 2)))(KEY, IMAGE, BLANK, np.array([True, False]))
    assert perturbations._draw._cache_size() == before + 1


def test_rendering_keeps_the_picture_where_the_moved_mask_is():
    masks = np.random.default_rng(2).uniform(size=(4, 7, 9)) > 0.5
    shift = np.array([1, -2], np.int32)
    shown = perturbations.render(Showing(IMAGE, BLANK, shift), masks)
    kept = np.stack([moved(mask, 1, -2) for mask in masks])
    np.testing.assert_array_equal(shown, np.where(kept[..., None], IMAGE, BLANK))


def test_each_by_itself_is_the_same_program_with_the_others_switched_off():
    every = perturbations.named("all")
    apart = every.apart()
    blanks = ["black fill", "grey fill", "white fill", "mean fill", "blur fill", "noise fill"]
    assert list(apart) == [*blanks, "shift", "brightness", "noise"]
    assert {jax.tree.structure(one) for one, _ in apart.values()} == {jax.tree.structure(every)}
    seen = {name: one(KEY, IMAGE, BLANK, on) for name, (one, on) in apart.items()}
    for name, showing in seen.items():
        assert np.array_equal(showing.blank, BLANK) == (name in ("brightness", "noise")), name
        assert np.array_equal(showing.image, IMAGE) == (name in blanks), name
    np.testing.assert_array_equal(seen["grey fill"].blank, np.full_like(BLANK, 0.5))
    together = every(KEY, IMAGE, BLANK)
    jax.tree.map(np.testing.assert_array_equal, every(KEY, IMAGE, BLANK, np.full(4, True)), together)


def test_two_of_a_kind_have_names_of_their_own():
    assert list(Perturbations([Gaussian(0.1), Gaussian(0.2), lambda key, showing: showing]).apart()) == [
        "noise",
        "noise 2",
        "<lambda>",
    ]


def test_names():
    assert evomask.perturbations.named("none") == Perturbations()
    own = Perturbations((Shift(0.1),))
    assert perturbations.named(own) is own
    with pytest.raises(InputError, match=r"perturbation is 'lokal' \(did you mean local\?\): give one of local, none"):
        perturbations.named("lokal")
    with pytest.raises(InputError, match="perturbation is 3: give one of local, none, fills, all, or"):
        perturbations.named(3)


def larger(key, showing):
    return dataclasses.replace(showing, image=jnp.pad(showing.image, ((1, 0), (0, 0), (0, 0))))


def as_half(key, showing):
    return dataclasses.replace(showing, blank=showing.blank.astype(jnp.float16))


def brighter(key, showing):
    return dataclasses.replace(showing, image=showing.image + 0.25)


def unknown(key, showing):
    return dataclasses.replace(showing, image=showing.image * jnp.nan)


BAD = {
    "shape": (
        (larger,),
        r"perturbation larger returns the image float32\[8, 9, 3\]: it must return float32\[7, 9, 3\]",
    ),
    "dtype": ((Shift(), as_half), r"perturbation as_half returns the blank float16\[7, 9, 3\]: it must return float32"),
    "no showing": ((lambda key, showing: showing.image,), r"<lambda> returns float32\[7, 9, 3\]: it must return a Sho"),
    "arguments": ((lambda key: key,), r"<lambda> fails \(TypeError: .*\): it must take a key and a Showing"),
    "above 1": ((Shift(), brighter), r"perturbation brighter shows an image from 0.25 to 1.25: clip it to \[0, 1\]"),
    "NaN": ((unknown,), r"perturbation unknown shows an image from nan to nan: clip it"),
    "blank": ((Fills((fills.Constant(1.5),)),), r"perturbation Fills shows a blank from 1.5 to 1.5: clip it"),
    "weights": (
        (Fills(weights=(0.0,) * 6),),
        r"weights of Fills are \(0.0, .*\): give numbers from 0 that sum to more",
    ),
    "negative": ((Fills(weights=(1, 1, 1, 1, 1, -1)),), r"weights of Fills are .*-1\): give numbers from 0"),
    "NaN weight": ((Fills(weights=(1, 1, 1, 1, 1, float("nan"))),), r"weights of Fills are .*nan\): give numbers"),
    "too few": ((Fills(weights=(1.0,)),), r"Fills has 6 fills and 1 weights: give one for each"),
    "no fills": ((Fills(()),), r"weights of Fills are \(\): give numbers from 0 that sum to more than 0"),
    "fraction": ((Shift(-0.1),), r"the fraction of Shift is -0.1: give a number from 0 to 1"),
    "change": ((Brightness(2.0),), r"the change of Brightness is 2.0: give a number from 0 to 1"),
    "deviation": ((Gaussian("little"),), r"the deviation of Gaussian is 'little': give a number from 0 to 1"),
    "no tuple": (Shift(), r"parts of Perturbations are Shift\(fraction=0.02\): give a tuple"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_perturbation_is_named(name):
    parts, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        perturbations.check(Perturbations(parts), IMAGE.shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", perturbations.SHIPPED)
def test_the_shipped_ones_pass(name):
    perturbations.check(perturbations.named(name), IMAGE.shape)
