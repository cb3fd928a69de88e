"""EfficientNet-Lite0 and -Lite1: golden logits, both forms of the depthwise convolution, feature maps,
restriction to classes, files and their conversion.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import small_networks
from omegaconf import OmegaConf

from evomask.classifiers import efficientnet
from evomask.types import InputError
from experiments.shared import cli
from experiments.tools import convert_lite

INDICES = [0, 217, 641, 722, 999]
PYTORCH = [[-0.8644, -2.2485, 7.4757, 9.6558, -1.6525], [-0.7118, -2.0701, 7.6200, 8.9517, -0.8479]]
SHIPPED = [[-0.8708, -2.2452, 7.5200, 9.6779, -1.6635], [-0.7110, -2.0679, 7.6383, 8.9836, -0.8472]]


@pytest.fixture(scope="module")
def classifier():
    return dataclasses.replace(efficientnet.efficientnet_lite0(), depthwise="shift")


@pytest.fixture(scope="module")
def images():
    return jnp.stack([efficientnet.reference_image(seed) for seed in range(2)])


@pytest.fixture(scope="module")
def outputs(classifier, images):
    return jax.jit(lambda c, x: c.features_and_logits(x))(classifier, images)


def test_golden_logits(outputs):
    """Logits of `reference_image` by the source weights in PyTorch; storing half precision moves them by up to 0.05.

    `python -m experiments.tools.convert_lite lite0 --check` computes them again and compares in single precision to
    1e-3.
    """
    np.testing.assert_allclose(np.asarray(outputs[1])[:, INDICES], PYTORCH, atol=0.05)


def test_golden_logits_of_the_stored_weights(outputs):
    """The same by this network as shipped: catches a change of the arithmetic too small for the test above."""
    np.testing.assert_allclose(np.asarray(outputs[1])[:, INDICES], SHIPPED, atol=1e-3)


def test_both_depthwise_forms_agree(classifier, images, outputs):
    conv = dataclasses.replace(classifier, depthwise="conv")
    np.testing.assert_allclose(jax.jit(conv.__call__)(images[:1]), outputs[1][:1], atol=1e-3)


def test_feature_maps(classifier, outputs):
    features, _ = outputs
    assert classifier.depths == ("shallow", "middle", "deep", "last")
    shapes = [feature.shape for feature in features]
    assert shapes == [(2, 56, 56, 24), (2, 14, 14, 80), (2, 7, 7, 192), (2, 7, 7, 1280)]


@pytest.mark.parametrize("depth", [2, -1])
def test_logits_from_features(classifier, outputs, depth):
    features, logits = outputs
    actual = jax.jit(lambda c, x: c.from_features(depth, x))(classifier, features[depth])
    np.testing.assert_allclose(actual, logits, atol=1e-4)


def test_from_features_has_a_gradient(classifier, outputs):
    features, _ = outputs
    gradient = jax.grad(lambda x: classifier.from_features(-1, x)[:, 217].sum())(features[-1])
    expected = classifier.params["logits"]["kernel"][:, 217] / 49  # the head is a mean and a matrix
    np.testing.assert_allclose(gradient, jnp.broadcast_to(expected[None, None, None], gradient.shape), atol=1e-6)


def test_features_and_logits_share_one_trunk(tmp_path, monkeypatch):
    """Calling both methods in one program costs one pass: XLA merges the equal halves."""
    small_networks.shrink_lite0(monkeypatch, tmp_path)
    classifier, images = efficientnet.efficientnet_lite0(), jnp.zeros((1, small_networks.SIDE, small_networks.SIDE, 3))
    both = jax.jit(lambda c, x: (c.features(x), c(x))).lower(classifier, images)
    once = jax.jit(lambda c, x: c.features_and_logits(x)).lower(classifier, images)
    flops = [program.compile().cost_analysis()["flops"] for program in (both, once)]
    assert flops[0] == pytest.approx(flops[1], rel=1e-3)


def test_imagenette_is_a_restriction(classifier, outputs):
    ten = efficientnet.imagenette()
    assert ten.labels == (
        "tench", "English springer", "cassette player", "chain saw", "church",
        "French horn", "garbage truck", "gas pump", "golf ball", "parachute",
    )  # fmt: skip
    features, logits = outputs
    actual = ten.from_features(-1, features[-1])
    np.testing.assert_allclose(actual, logits[:, jnp.array(efficientnet.IMAGENETTE)], atol=1e-4)


@pytest.mark.parametrize("classes", [[1], [0, 1000], [-1, 2]])
def test_bad_classes(classes):
    with pytest.raises(ValueError, match="two or more ImageNet indices in 0..999"):
        efficientnet.efficientnet_lite0(classes)


def test_labels_are_one_per_class_and_distinct():
    labels = efficientnet.LABELS.read_text(encoding="utf-8").splitlines()
    assert len(labels) == len(set(labels)) == 1000 and all(label == label.strip() != "" for label in labels)


def random_lite1(path, **other):
    """A file of the names and shapes of EfficientNet-Lite1; None for a name leaves it out."""
    draw = np.random.default_rng(0)
    weights = {name: draw.normal(0, 0.02, shape) for name, shape in efficientnet.shapes(efficientnet.LITE1).items()}
    weights = {name: value.astype(np.float16) for name, value in (weights | other).items() if value is not None}
    safetensors.numpy.save_file(weights, path)
    return path


def test_lite0_is_the_variant_that_ships():
    stored = safetensors.numpy.load_file(efficientnet.WEIGHTS)
    assert efficientnet.shapes(efficientnet.LITE0) == {name: value.shape for name, value in stored.items()}
    assert efficientnet.LITE0.depths == (3, 8, 15, 17) and efficientnet.LITE0.crop == 0.875


def test_lite1_is_deeper_and_sees_more_pixels(tmp_path):
    path = random_lite1(tmp_path / "lite1.safetensors")
    node = OmegaConf.load(cli.CONF / "model" / "efficientnet_lite1.yaml")
    node.path, node.classes = str(path), [0, 217, 482]
    network = cli.instantiate(node)
    assert network.image_shape == (240, 240, 3) and network.labels == ("tench", "English springer", "cassette player")
    assert network.crop == pytest.approx(240 / 272)
    features, logits = jax.eval_shape(network.features_and_logits, jnp.zeros((2, 240, 240, 3)))
    shapes = [feature.shape for feature in features]
    assert shapes == [(2, 60, 60, 24), (2, 15, 15, 80), (2, 8, 8, 192), (2, 8, 8, 1280)] and logits.shape == (2, 3)
    for depth, feature in enumerate(features):
        again = jax.eval_shape(lambda x, depth=depth: network.from_features(depth, x), feature)
        assert again.shape == (2, 3)


def test_files_that_hold_no_lite1_are_refused(tmp_path):
    with pytest.raises(InputError, match="no weights of EfficientNet-Lite1 at .*convert_lite lite1"):
        efficientnet.efficientnet_lite1(tmp_path / "nothing")
    (tmp_path / "text").write_text("text")
    for damaged in (tmp_path, tmp_path / "text"):
        with pytest.raises(InputError, match="is damaged or holds no network"):
            efficientnet.efficientnet_lite1(damaged)
    with pytest.raises(InputError, match=r"holds no EfficientNet-Lite1 \(missing or of another shape: blocks_10"):
        efficientnet.efficientnet_lite1(efficientnet.WEIGHTS)
    lacking = random_lite1(tmp_path / "lacking", **{"top.bias": None})
    with pytest.raises(InputError, match=r"of another shape: top.bias\)"):
        efficientnet.efficientnet_lite1(lacking)


def state_dict(variant):
    """A random state dict of the PyTorch packages, small so that activations stay finite."""
    draw, source = np.random.default_rng(0), {}
    for name, shape in efficientnet.shapes(variant).items():
        layer, kind = name.rsplit(".", 1)
        if layer == "logits":
            source[f"_fc.{'weight' if kind == 'kernel' else 'bias'}"] = draw.normal(0, 0.1, shape[::-1])
            continue
        outer, _, inner = layer.rpartition(".")
        block = f"_blocks.{outer.removeprefix('blocks_')}." if outer else ""
        conv, norm = {
            "stem": ("_conv_stem", "_bn0"),
            "top": ("_conv_head", "_bn1"),
            "expand": ("_expand_conv", "_bn0"),
            "depthwise": ("_depthwise_conv", "_bn1"),
            "project": ("_project_conv", "_bn2"),
        }[inner]
        if kind == "kernel":
            size = shape if len(shape) == 4 else (1, 1, *shape)
            source[f"{block}{conv}.weight"] = draw.normal(0, 0.1, (size[3], size[2], *size[:2]))
        else:
            for part in ("weight", "bias", "running_mean", "running_var"):
                source[f"{block}{norm}.{part}"] = draw.uniform(0.5, 1.5, shape)
    return source


@pytest.mark.parametrize("variant", [efficientnet.LITE0, efficientnet.LITE1], ids=lambda variant: variant.name)
def test_the_conversion_folds_every_batch_norm(variant):
    source = state_dict(variant)
    weights = convert_lite.fold(source, variant)
    assert {name: value.shape for name, value in weights.items()} == efficientnet.shapes(variant)
    last = f"_blocks.{len(variant.blocks) - 1}."
    scale = source[f"{last}_bn2.weight"] / np.sqrt(source[f"{last}_bn2.running_var"] + 1e-3)
    expected = (source[f"{last}_project_conv.weight"][:, :, 0, 0] * scale[:, None]).T
    np.testing.assert_allclose(weights[f"blocks_{len(variant.blocks) - 1}.project.kernel"], expected, rtol=1e-6)
    expected = source[f"{last}_bn2.bias"] - source[f"{last}_bn2.running_mean"] * scale
    np.testing.assert_allclose(weights[f"blocks_{len(variant.blocks) - 1}.project.bias"], expected, rtol=1e-5)


def test_lite1_is_written_where_the_user_says(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["convert_lite", "lite1", "--check"])
    with pytest.raises(SystemExit):
        convert_lite.main()
    assert "lite1 does not ship with evomask: say with --out where" in capsys.readouterr().err
