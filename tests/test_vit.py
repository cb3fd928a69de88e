"""The transformer: what dropped patches are to it, its files, and that it learns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import evomask
from evomask import classifiers, data, fills, training
from evomask.baselines import BASELINES
from evomask.classifiers import trained, vit
from evomask.types import InputError
from experiments import train as command

SIDE = 16


@pytest.fixture(scope="module")
def network() -> vit.ViT:
    """A small one with weights by chance."""
    module = vit.VisionTransformer(num_classes=3, width=16, depth=2, heads=2)
    params = module.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys)]
    return vit.of(module, jax.tree.unflatten(tree, drawn), ("a", "b", "c"), (SIDE, SIDE, 3))


IMAGES = np.random.default_rng(0).uniform(size=(3, SIDE, SIDE, 3)).astype(np.float32)


def dropped(images, rows, columns):
    """The images with these pixels in the colour of `Drop`."""
    images = images.copy()
    images[:, rows, columns] = fills.DROPPED
    return images


# --------------------------------------------------------------------------------------------------- dropped patches


def test_a_patch_is_dropped_where_more_than_half_of_it_is():
    columns = np.zeros((1, 4, 16, 1), np.float32)
    for patch, wide in enumerate((0, 2, 3, 4)):  # of four columns
        columns[:, :, 4 * patch : 4 * patch + wide] = fills.DROPPED
    assert vit.patches(jnp.asarray(columns), 4)[1].tolist() == [[[True, True, False, False]]]
    other = columns.repeat(3, -1)
    other[..., 2] = 0.5  # one channel alone has another value: a pixel like any other
    assert vit.patches(jnp.asarray(other), 4)[1].all()


def test_what_is_dropped_is_as_if_the_picture_ended_there(network):
    """A picture whose lower half is dropped says what its upper half says alone: places are told by borders only."""
    whole = network(jnp.asarray(dropped(IMAGES, slice(8, None), slice(None))))
    half = network(jnp.asarray(IMAGES[:, :8]))
    np.testing.assert_allclose(whole, half, rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(network(jnp.asarray(IMAGES)) - whole).max()) > 0.01


def test_nothing_at_all_is_an_answer(network):
    blank = jnp.full((2, SIDE, SIDE, 3), fills.DROPPED)
    np.testing.assert_array_equal(network(blank), jnp.tile(network.params["head"]["bias"], (2, 1)))


def test_attention_by_hand(network):
    """One block, by loops over the tokens that there are."""
    block, width, heads = jax.device_get(network.params["blocks_0"]), 16, 2
    draw = np.random.default_rng(1)
    x, there = draw.normal(size=(1, 2, 3, width)).astype(np.float32), draw.uniform(size=(1, 2, 3)) < 0.7
    x = np.where(there[..., None], x, 0)
    found = vit.Block(heads).apply({"params": block}, jnp.asarray(x), jnp.asarray(there))

    def dense(name, values):
        return values @ block[name]["kernel"] + block[name]["bias"]

    def near(values, norm):
        mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
        values = (values - mean) / np.sqrt(variance + 1e-6) * block[norm]["scale"] + block[norm]["bias"]
        return np.asarray(vit.shifted(jnp.asarray(np.where(there[..., None], values, 0).astype(np.float32))))

    shown, part, mixed = near(x, "LayerNorm_0"), width // heads, np.zeros_like(x)
    query, key, value = (dense(name, shown) for name in ("query", "key", "value"))
    for row, column in np.ndindex(2, 3):
        for head in (slice(0, part), slice(part, width)):
            alike = np.exp(key[0, ..., head] @ query[0, row, column, head] / np.sqrt(part)) * there[0]
            mixed[0, row, column, head] = np.einsum("ij,ijd->d", alike / alike.sum(), value[0, ..., head])
    y = x + dense("out", mixed)
    y = y + dense("narrow", np.asarray(jax.nn.gelu(jnp.asarray(dense("widen", near(y, "LayerNorm_1"))))))
    np.testing.assert_allclose(found, np.where(there[..., None], y, 0), atol=1e-4)


def test_a_mask_is_searched_with_patches_left_out(network):
    """Under `Drop` the search shows the network nothing of the rest, as its numbers say."""
    config = evomask.presets.smallest(300).replace(fill=fills.Drop())
    found = evomask.explain(network, IMAGES[:1], key=0, config=config)[0]
    assert found.fills[0] == "drop" and not found.blanks[0].std()
    shown = np.where(found.mask[..., None], IMAGES[0], np.float32(fills.DROPPED))
    said = jax.nn.softmax(network(jnp.asarray(shown[None])))[0, found.label]
    assert float(found.masked_confidence) == pytest.approx(float(said), abs=1e-5)


# -------------------------------------------------------------------------------------------------- files and parts


def test_a_file_gives_the_network_back(network, tmp_path):
    vit.save(network, tmp_path / "a.safetensors")
    again = trained.load(tmp_path / "a.safetensors")
    assert isinstance(again, vit.ViT) and (again.labels, again.image_shape) == (network.labels, network.image_shape)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32), network)
    np.testing.assert_array_equal(again(jnp.asarray(IMAGES)), rounded(jnp.asarray(IMAGES)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no weights at .*missing"):
        vit.load(tmp_path / "missing.safetensors")
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no network written by .*transformer"):
        vit.load(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(InputError, match="holds no network written by"):
        vit.load(tmp_path / "text.safetensors")


def test_the_rest_of_the_network_follows_from_any_features(network):
    features, logits = network.features_and_logits(jnp.asarray(IMAGES))
    assert [feature.shape for feature in features] == [(3, 4, 4, 16)] * 2
    for depth in (0, 1, -1):
        np.testing.assert_allclose(network.from_features(depth, features[depth]), logits, rtol=1e-5, atol=1e-6)
    score = BASELINES["gradcam"]()(network, IMAGES, [0, 1, 2], key=0, budget=10)
    assert score.shape == (3, SIDE, SIDE) and bool(jnp.isfinite(score).all()) and float(score.std()) > 0


def test_muon_is_for_kernels_of_convolutions_and_of_blocks(network):
    hidden = jax.tree.map_with_path(training.recipe.is_hidden, network.params)
    named = {jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(hidden)}
    wanted = {f"['blocks_{block}']['{name}']['kernel']" for block in (0, 1)
              for name in ("query", "key", "value", "out", "widen", "narrow")}  # fmt: skip
    assert {name for name, value in named.items() if value} == wanted


def test_it_learns_by_the_command_line(tmp_path):
    """Digits, in seconds: the file holds what the card says."""
    small = ["data=digits", "name=digits", "model.width=32", "model.depth=1", "model.heads=2"]
    how = ["recipe.batch_size=64", "recipe.epochs=8", "recipe.pad=1", "+recipe.flip=false"]
    assert command.main(["recipe=cifar10_vit", *small, *how, f"out={tmp_path}"]) == 0
    network = trained.load(tmp_path / "digits.safetensors")
    found = training.measure(network, data.digits()[1])
    assert found["test accuracy"] > 0.7 and found["multiply-adds"] == vit.multiply_adds(network)
    assert f"{found['multiply-adds']:,} |" in (tmp_path / "digits.md").read_text()


def test_sides_must_be_whole_patches():
    with pytest.raises(InputError, match="give model.patch by which both sides can be divided"):
        training.vision_transformer(2, patch=5).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


def test_the_shipped_one_recognises_the_samples():
    classifier, samples = classifiers.load("cifar10_vit"), data.samples("cifar10")
    assert classifiers.check_classifier(classifier, (32, 32, 3)) == 10 and classifier.labels == samples.names
    logits = jax.jit(lambda network, x: network(x))(classifier, jnp.asarray(samples.images, jnp.float32) / 255)
    assert (np.asarray(logits.argmax(-1)) == samples.labels).sum() >= 8
