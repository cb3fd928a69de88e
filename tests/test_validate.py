"""What NumPy and JAX users pass is taken, and what is refused is named in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from evomask import validate
from evomask.measures import faithfulness, metrics, thresholding
from evomask.types import InputError, whole

PIXEL = (1, 1, 1, 1)


@pytest.mark.parametrize(
    "key", [7, np.int64(7), np.uint8(7), jnp.int32(7), np.array(7), jax.random.PRNGKey(7), np.array([0, 7], np.uint32)]
)
def test_keys_of_every_kind(key):
    assert validate.as_key(key) == jax.random.key(7)


@pytest.mark.parametrize(
    "key",
    [
        -1,
        2**32,
        True,
        np.True_,
        1.0,
        "7",
        None,
        [0, 7],
        np.zeros(2, np.int32),
        jax.random.split(jax.random.key(0)),
        object(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_keys_that_are_none(key):
    with pytest.raises(InputError, match="^key is .*: give "):
        validate.as_key(key)


def test_a_seed_is_the_same_key_whatever_generator_is_the_default():
    with jax.default_prng_impl("rbg"):
        key = validate.as_key(7)
    assert key == jax.random.key(7)


@pytest.mark.parametrize(
    ("images", "value"),
    [
        (np.full(PIXEL, 51, np.uint8), 0.2),
        (np.full(PIXEL, 0.2), 0.2),
        (np.full(PIXEL, 0.25, np.float16), 0.25),
        (jnp.full(PIXEL, 0.25, jnp.bfloat16), 0.25),
        ([[[[0.2]]]], 0.2),
        (np.ones(PIXEL, bool), 1.0),
        (np.nextafter(np.ones(PIXEL, np.float32), np.float32(2)), 1.0),
        (np.full(PIXEL, -1e-8), 0.0),
        (jnp.full(PIXEL, 1.0078125, jnp.bfloat16), 1.0),
    ],
)
def test_images_of_every_kind(images, value):
    found = validate.check_images(images)
    assert found.dtype == np.float32 and found.tolist() == [[[[np.float32(value)]]]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones(PIXEL, np.uint8), "bytes of 0 and 1"),
        (np.full(PIXEL, 255), r"int64\[1, 1, 1, 1\]: give floats"),
        (np.full(PIXEL, 1.01), "range from 1.01 to 1.01"),
        (np.full(PIXEL, np.nan), "range from nan"),
        (np.ones((2, 2, 1)), r"a single image goes in as image\[None\]"),
        ([[1, 2], [3]], "cannot be made an array"),
        ("cat.jpg", "give floats"),
        (jax.random.split(jax.random.key(0)), "cannot be made an array"),
    ],
)
def test_images_that_are_none(images, message):
    with pytest.raises(InputError, match=message) as caught:
        validate.check_images(images)
    assert "\n" not in str(caught.value)


def test_whole_numbers():
    assert [whole("n", value) for value in (3, np.int64(3), jnp.int32(3))] == [3, 3, 3]
    for value in (0, True, np.True_, 3.0, "3", None, np.array([3])):
        with pytest.raises(InputError, match="^n is .*: give a whole number of 1 or more"):
            whole("n", value)


# ------------------------------------------------------------------------------------------------------------- metrics

IMAGE = np.ones((1, 8, 8, 3), np.float32)
SCORE = np.arange(64.0).reshape(1, 8, 8)
SUBSETS = np.eye(64, dtype=bool)[:4].reshape(4, 8, 8)
METRICS = {
    "insertion": lambda image, label, score, blank: metrics.insertion_auc(ORACLE, image, label, score, blank, steps=2),
    "deletion": lambda image, label, score, blank: metrics.deletion_auc(ORACLE, image, label, score, blank, steps=2),
    "fidelity": lambda image, label, score, blank: metrics.mu_fidelity(ORACLE, image, label, score, blank, SUBSETS),
    "calibration": lambda *asked: faithfulness.calibration(ORACLE, *asked, steps=2),
    "sweep": lambda image, label, score, blank: thresholding.sweep(ORACLE, image, label, score, blank, steps=2),
}
ORACLE = oracles.BoxOracle()


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_refuse_what_explain_refuses(metric):
    measure = METRICS[metric]
    for label in (2, 99, -1):
        with pytest.raises(InputError, match=f"label {label} is out of range: give classes from 0 to 1"):
            measure(IMAGE, np.array([label]), SCORE, 0 * IMAGE)
    with pytest.raises(InputError, match="images range from"):
        measure(255 * IMAGE, [1], SCORE, 0 * IMAGE)
    with pytest.raises(InputError, match=r"scores are float64\[8, 8\]: give numbers \[1, 8, 8\], one map per image"):
        measure(IMAGE, [1], SCORE[0], 0 * IMAGE)
    with pytest.raises(InputError, match="blanks are .*: give one of the same size for each"):
        measure(IMAGE, [1], SCORE, 0 * IMAGE[0])


def test_a_label_that_is_no_class_has_no_confidence():
    seen = metrics.judge(ORACLE, IMAGE, np.array([99]), SCORE > 9, 0 * IMAGE)
    assert seen.whole[0] == 0 and not metrics.sufficient(seen)[0]


def test_masks_and_subsets_that_do_not_belong_to_the_images():
    with pytest.raises(InputError, match=r"masks are float64\[1, 8, 8\]: give booleans \[1, 8, 8\], one map per image"):
        metrics.judge(ORACLE, IMAGE, [1], SCORE, 0 * IMAGE)
    for subsets in (SUBSETS[0], SUBSETS[:, :4], SUBSETS.astype(int)):
        with pytest.raises(InputError, match=r"subsets are .*: give booleans \[N, 8, 8\], such as those of random_sub"):
            metrics.mu_fidelity(ORACLE, IMAGE, [1], SCORE, 0 * IMAGE, subsets)
    for steps in (0, 2.5, True):
        with pytest.raises(InputError, match=f"steps is {steps}: give a whole number of 1 or more"):
            metrics.insertion_auc(ORACLE, IMAGE, [1], SCORE, 0 * IMAGE, steps=steps)


def test_metrics_that_draw_take_numbers_for_keys_in_any_precision():
    shade, weights = lambda images: images.mean(-1), {"a": np.arange(5.0), "b": 2.0}
    drawn = lambda key: (
        metrics.random_subsets(key, 2, (2, 2), 1),
        metrics.max_sensitivity(shade, IMAGE, key=key, samples=np.int64(2)),
        metrics.shuffle_weights(key, weights),
    )
    wanted = drawn(jax.random.key(3))
    with jax.enable_x64(True), jax.threefry_partitionable(False):
        found = drawn(3)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for call in (drawn, lambda key: metrics.randomisation_check(lambda net, x: shade(x), weights, IMAGE, key=key)):
        with pytest.raises(InputError, match="key is -1: give a whole number from 0"):
            call(-1)
    with pytest.raises(InputError, match="samples is 0: give a whole number"):
        metrics.max_sensitivity(shade, IMAGE, key=0, samples=0)
