"""Training: exact resumption, the same weights from the same seed, augmentation, real networks in seconds, errors."""

import dataclasses
import json
import pathlib
import signal

import hydra
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import small_networks
from omegaconf import OmegaConf
from PIL import Image

import evomask
from evomask import data, questions, training
from evomask.classifiers import check_classifier, cnn, efficientnet, trained
from evomask.data import photographs
from evomask.types import InputError
from experiments import train as command
from experiments.shared import cli

CONF = pathlib.Path(__file__).parent.parent / "conf" / "train"
KEY = jax.random.key(2)
RECIPE = training.Recipe(
    epochs=2,
    batch_size=8,
    optimizer="muon",
    learning_rate=0.05,
    bias_rate=4.0,
    average=0.9,
    pad=1,
    erase=0.5,
    mixup=0.3,
)


def bright_and_dark(num, seed):
    """Two classes of 8 x 8 noise that differ in brightness."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(num) % 2).astype(np.int32)
    images = rng.integers(0, 160, (num, 8, 8, 3)) + 95 * labels[:, None, None, None]
    return data.Dataset(images.astype(np.uint8), labels, ("dark", "bright"))


@pytest.fixture(scope="module")
def sets():
    return bright_and_dark(36, 0), bright_and_dark(12, 1)


@pytest.fixture(scope="module")
def tiny():
    return training.residual_cnn(2, widths=(4,), depth=1, directions=4)


@pytest.fixture(scope="module")
def uninterrupted(sets, tiny):
    return training.fit(tiny, *sets, RECIPE)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("stops", [(3,), (4,), (1, 6)])  # within an epoch, at its end, twice
def test_resumed_equals_uninterrupted(sets, tiny, uninterrupted, tmp_path, stops):
    for step in stops:
        seen = []
        stop = lambda seen=seen, step=step: seen[-1] == step
        with pytest.raises(training.Interrupted, match=f"stopped after step {step} of 8"):
            training.fit(tiny, *sets, RECIPE, tmp_path, lambda s, done, seen=seen: seen.append(done), stop)
    same(training.fit(tiny, *sets, RECIPE, tmp_path), uninterrupted)
    assert np.all(uninterrupted.loss > 0)
    same(training.fit(tiny, *sets, RECIPE, tmp_path), uninterrupted)  # a finished run has nothing left to do


def test_the_seed_decides_the_weights(sets, tiny, uninterrupted):
    same(training.fit(tiny, *sets, RECIPE), uninterrupted)
    other = training.fit(tiny, *sets, dataclasses.replace(RECIPE, seed=1))
    assert np.abs(other.params["head"]["kernel"] - uninterrupted.params["head"]["kernel"]).max() > 1e-3


def test_checkpoints_of_another_recipe_are_refused(sets, tiny, tmp_path):
    with pytest.raises(training.Interrupted):
        training.fit(tiny, *sets, RECIPE, tmp_path, stop=lambda: True)
    with pytest.raises(InputError, match="holds checkpoints of another recipe: give another out="):
        training.fit(tiny, *sets, dataclasses.replace(RECIPE, seed=2), tmp_path)
    saved = json.loads((tmp_path / "recipe.json").read_text())
    del saved["frozen_epochs"]  # written before that setting existed
    (tmp_path / "recipe.json").write_text(json.dumps(saved))
    training.fit(tiny, *sets, RECIPE, tmp_path)


def test_a_run_begins_with_the_averaged_weights_of_another(sets, tiny, uninterrupted, tmp_path):
    training.fit(tiny, *sets, RECIPE, tmp_path)
    warm = training.start_from(tmp_path, tiny, sets[0])
    same(training.start(warm, dataclasses.replace(RECIPE, epochs=1), sets[0]).average, uninterrupted.average)
    same(training.start(warm, dataclasses.replace(RECIPE, epochs=1), sets[0]).params, uninterrupted.average[0])


def test_a_run_cannot_begin_with_nothing(sets, tiny, tmp_path):
    with pytest.raises(
        InputError, match="no checkpoints in .*nothing': train that network first, or give another start="
    ):
        training.start_from(tmp_path / "nothing", tiny, sets[0])
    with pytest.raises(training.Interrupted):
        training.fit(tiny, *sets, RECIPE, tmp_path, stop=lambda: True)
    wider = training.residual_cnn(2, widths=(6,), depth=1, directions=4)
    with pytest.raises(InputError, match="are of another network or training set"):
        training.start_from(tmp_path, wider, sets[0])


def test_the_frozen_trunk_stays(sets):
    def init(key, images):
        return {"trunk": jnp.eye(3), "head": jnp.zeros((3, 2))}, {}

    def apply(params, stats, images, train):
        return images.mean((1, 2)) @ params["trunk"] @ params["head"], stats

    headed = training.Trainable(init, apply, None, None, lambda path: path[0].key == "head")
    recipe = training.Recipe(epochs=2, batch_size=8, learning_rate=0.5, pad=0, flip=False, frozen_epochs=1)
    states = []
    training.fit(headed, *sets, recipe, on_step=lambda s, done: states.append(jax.tree.map(np.asarray, s.params)))
    np.testing.assert_array_equal(states[3]["trunk"], np.eye(3))
    assert np.abs(states[3]["head"]).max() > 0  # it began with zeros
    assert np.abs(states[7]["trunk"] - np.eye(3)).max() > 0


@pytest.mark.parametrize("rate", [1e30, 3e38])
def test_what_diverges_stops_and_keeps_the_last_good_checkpoint(sets, tmp_path, rate):
    """Once in its first epoch, without a checkpoint; once after an epoch that went well."""

    def apply(params, stats, images, train):
        return images.mean((1, 2))[:, :2] * params["w"], stats

    trainable = training.Trainable(lambda key, images: ({"w": jnp.ones(())}, {}), apply, None, None)
    recipe = training.Recipe(epochs=3, batch_size=8, learning_rate=rate, warmup=0.0, pad=0, flip=False)
    with pytest.raises(training.Diverged) as stopped:
        training.fit(trainable, *sets, recipe, tmp_path / "a")
    message = str(stopped.value)
    assert message.startswith("training diverged in epoch 1 of 3: ") and "\n" not in message
    assert f"lower recipe.learning_rate (now {rate}) or raise recipe.warmup (now 0.0)" in message
    assert message.endswith("(no checkpoint is kept)")

    good, done = dataclasses.replace(recipe, learning_rate=0.01), []
    with pytest.raises(training.Interrupted):
        training.fit(trainable, *sets, good, tmp_path / "b", lambda s, n: done.append(n), lambda: len(done) == 4)
    before = sorted(path.name for path in (tmp_path / "b").iterdir())
    broken = dataclasses.replace(trainable, apply=lambda p, s, x, train: (apply(p, s, x, train)[0] * jnp.nan, s))
    kept = "in epoch 2 of 3: the loss of step 5 is nan; .* keeps the checkpoint of step 4"
    with pytest.raises(training.Diverged, match=kept):
        training.fit(broken, *sets, good, tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == before and "4" in before


def test_planted_evidence_is_learned():
    sets = data.planted(2048, size=16)
    trainable = training.residual_cnn(4, widths=(12, 24), depth=1, directions=6)
    recipe = training.Recipe(epochs=5, batch_size=64, learning_rate=0.1, average=0.95, pad=0, flip=False)
    assert training.fit(trainable, *sets, recipe).test_accuracy[-1] >= 0.99


def test_images_and_targets_are_mixed_alike():
    """Class 0 is black and class 1 white, so the brightness of a mixed image is what its target must be."""
    seen = []

    def apply(params, stats, images, train):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), images)
        return jnp.broadcast_to(jnp.array([[0.3, -1.2]]) * params["w"], (len(images), 2)), stats

    labels = np.repeat(np.array([0, 1], np.int32), [12, 24])
    plain = data.Dataset(
        np.broadcast_to(np.uint8(255) * labels.astype(np.uint8)[:, None, None, None], (36, 8, 8, 3)), labels, ("a", "b")
    )
    recipe = training.Recipe(epochs=1, batch_size=36, pad=1, label_smoothing=0.0, mixup=1.0)
    trainable = training.Trainable(lambda key, images: ({"w": jnp.ones(())}, {}), apply, None, None)
    state = training.fit(trainable, plain, plain, recipe)
    jax.effects_barrier()
    white = seen[0].mean((1, 2, 3))
    assert np.ptp(seen[0], axis=(1, 2, 3)).max() < 1e-6 and 5 < ((white > 0.02) & (white < 0.98)).sum() < 36
    log_p = np.asarray(jax.nn.log_softmax(jnp.array([0.3, -1.2])))
    assert float(state.loss[0]) == pytest.approx(-np.mean((1 - white) * log_p[0] + white * log_p[1]), rel=1e-5)


def test_every_image_is_flipped_in_every_second_epoch(sets):
    seen = []

    def apply(params, stats, images, train):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), images)
        return images.mean((1, 2))[:, :2] * params["w"], stats

    trainable = training.Trainable(lambda key, images: ({"w": jnp.ones(())}, {}), apply, None, None)
    recipe = training.Recipe(epochs=2, batch_size=36, pad=0)
    training.fit(trainable, *sets, recipe)
    jax.effects_barrier()
    first, second = (sorted(x.tobytes() for x in np.round(255 * batch)) for batch in (seen[0], seen[-2]))
    flipped = sorted(np.ascontiguousarray(x[:, ::-1]).tobytes() for x in np.round(255 * seen[-2]))
    assert first == flipped and first != second


def test_finetuning_starts_from_the_pretrained_trunk(tmp_path, monkeypatch):
    small_networks.shrink_lite0(monkeypatch, tmp_path)
    trainable = training.efficientnet_lite0(3)
    params, stats = trainable.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    logits, _ = jax.eval_shape(lambda p, x: trainable.apply(p, stats, x, True), params, jnp.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 3)
    heads = jax.tree.map_with_path(lambda path, _: trainable.is_head(path), params)
    assert heads["logits"] == {"kernel": True, "bias": True} and sum(jax.tree.leaves(heads)) == 2
    pretrained = efficientnet.efficientnet_lite0().params
    same({**params, "logits": 0}, {**pretrained, "logits": 0})
    classifier = trainable.classifier(params, stats, ("a", "b", "c"), (32, 32, 3))
    trainable.save(classifier, tmp_path / "net.safetensors")
    loaded = trained.load(tmp_path / "net.safetensors")
    assert check_classifier(loaded, (32, 32, 3)) == 3 and loaded.labels == ("a", "b", "c") and loaded.crop == 1.0
    same(loaded.params, classifier.params)  # the shipped weights are half precision already
    with pytest.raises(
        InputError, match=r"images are \(16, 16, 3\), the network takes \(32, 32, 3\): set data.size=32"
    ):
        trainable.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    with pytest.raises(InputError, match="holds no network written by evomask.classifiers.cnn.save"):
        cnn.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize("load", [trained.load, training.load_lite0])
def test_files_without_a_network_are_refused(tmp_path, load):
    with pytest.raises(InputError, match="no weights at .*: train them with evomask train"):
        load(tmp_path / "nothing")
    (tmp_path / "text").write_text("text")
    with pytest.raises(InputError, match="text' .*holds no network"):
        load(tmp_path / "text")
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(InputError, match="other' holds no network"):
        load(tmp_path / "other")


def test_a_folder_is_not_its_weights(tmp_path):
    with pytest.raises(InputError, match="is a folder: give the .safetensors file in it"):
        trained.load(tmp_path)


def test_from_the_recipe_to_an_explanation(tmp_path, monkeypatch):
    """`recipe=imagenette_finetune`, then `model=trained` with what it wrote."""
    small_networks.shrink_lite0(monkeypatch, tmp_path)
    write_pictures(tmp_path / "set", ("train", "val"), ("n01440764", "n03888257"))
    overrides = ["data.size=32", "recipe.epochs=1", "recipe.frozen_epochs=1", "recipe.batch_size=2", "recipe.pad=0"]
    out = tmp_path / "out"
    assert command.main(["recipe=imagenette_finetune", f"data.path={tmp_path}/set", *overrides, f"out={out}"]) == 0
    node = OmegaConf.load(CONF.parent / "model" / "trained.yaml")
    node.path = str(out / "imagenette_finetune.safetensors")
    network = cli.instantiate(node)
    assert network.labels == ("tench", "parachute")
    photo = photographs.load(tmp_path / "set" / "val" / "n03888257" / "0.png", network.image_shape, network.crop)
    np.testing.assert_array_equal(
        np.round(255 * photo.image), data.load(tmp_path / "set", 32)[1].images[2]
    )  # seen as trained
    preset = evomask.presets.smallest(144)
    operators = dataclasses.replace(preset.operators, screening=None)
    config = dataclasses.replace(preset, operators=operators, stages=preset.stages[:1])  # less to compile
    found = evomask.explain(network, photo.image[None], key=KEY, config=config)
    logits = questions.logits(network, photo.image)
    assert found.label[0] == logits.argmax() and found.mask.shape == (1, 32, 32)
    assert found.confidence[0] == pytest.approx(float(jax.nn.softmax(logits)[found.label[0]]), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(warmup=1.5), "recipe.warmup is 1.5: give a number from 0 to 1"),
        (dict(learning_rate=float("nan")), "recipe.learning_rate is nan: give a number of 0 or more"),
        (dict(pad=-1), "recipe.pad is -1"),
        (dict(epochs=0), "0 epochs and batches of 8: both must be at least 1"),
        (dict(mixup=-0.1), "recipe.mixup is -0.1: give 0"),
        (dict(optimizer="lamb"), "recipe.optimizer is 'lamb': choose sgd, adamw or muon"),
        (dict(frozen_epochs=3), r"recipe.frozen_epochs is 3: give 0 \.\. 2"),
    ],
)
def test_wrong_recipes(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_wrong_sets(sets, tiny):
    train, test = sets
    with pytest.raises(InputError, match="36 training images are fewer than one batch of 64"):
        training.fit(tiny, train, test, dataclasses.replace(RECIPE, batch_size=64))
    small = data.Dataset(test.images[:, :4], test.labels, test.names)
    with pytest.raises(InputError, match=r"training images are \(8, 8, 3\), test images \(4, 8, 3\)"):
        training.fit(tiny, train, small, RECIPE)
    renamed = data.Dataset(test.images, test.labels, ("bright", "dark"))
    with pytest.raises(InputError, match="training classes .* differ from test classes"):
        training.fit(tiny, train, renamed, RECIPE)
    with pytest.raises(InputError, match="recipe.pad is 8 for images of 8 x 8 pixels"):
        training.fit(tiny, train, test, dataclasses.replace(RECIPE, pad=8))
    with pytest.raises(InputError, match="precision is 'int8': choose auto"):
        training.compute_dtype("int8")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "recipe").glob("*.yaml")))
def test_every_recipe_composes(name):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", [f"recipe={name}"])
    assert isinstance(hydra.utils.instantiate(config.recipe, _convert_="all"), training.Recipe)
    trainable = hydra.utils.instantiate(config.model, num_classes=4, _convert_="all")
    assert isinstance(trainable, training.Trainable) and config.name == name
    assert hydra.utils.get_method(config.data["_target_"])
    assert config.start == ("out/train/cifar10" if name == "cifar10_erased" else None)


def test_digits_by_the_command_line(tmp_path, capsys):
    """A real network in seconds: it learns, and the card says of it what is measured of the file."""
    overrides = ["recipe=digits", "recipe.epochs=6", "model.widths=[12,24]", f"out={tmp_path}"]
    before = signal.getsignal(signal.SIGINT)
    assert command.main(overrides) == 0 and signal.getsignal(signal.SIGINT) is before
    network, test = trained.load(tmp_path / "digits.safetensors"), data.digits()[1]
    assert check_classifier(network, (16, 16, 1)) == 10 and network.labels[7] == "7"
    found = training.measure(network, test)
    accuracy = found["test accuracy"]
    assert accuracy > 0.93 and found["test images"] == 360
    assert found["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(network))
    assert found["blank confidence"] == pytest.approx(
        float(jax.nn.softmax(network(jnp.zeros((1, 16, 16, 1))))[0].max())
    )
    card = (tmp_path / "digits.md").read_text()
    assert f"| test accuracy | {100 * accuracy:.2f} % of 360 images |" in card and "| `epochs` | 6 |" in card
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert rows[0] == "step,loss,accuracy,test_accuracy" and len(rows) == 1 + 6 * 22
    assert float(rows[-1].split(",")[3]) == pytest.approx(accuracy, abs=0.01)
    assert f"test accuracy {accuracy:.4f}" in capsys.readouterr().out


def test_a_training_that_diverges_ends_with_an_error(tmp_path, capsys):
    """Its last weights are numbers, but too large for half precision; nothing of it is written as a result."""
    write_pictures(tmp_path / "set")
    overrides = ["recipe.epochs=1", "recipe.batch_size=4", "recipe.learning_rate=1e9", "recipe.optimizer=sgd"]
    network = ["data=folder", f"data.path={tmp_path}/set", "model.widths=[4]", "recipe.mixup=0", "recipe.pad=1"]
    assert command.main(["recipe=cifar10", "name=x", *network, *overrides, f"out={tmp_path}/out"]) == 2
    captured = capsys.readouterr()
    assert "training diverged" in captured.err and "lower recipe.learning_rate (now 1000000000.0)" in captured.err
    assert not list((tmp_path / "out").glob("x.*")) and "accuracy" not in captured.out.splitlines()[-1:]


def write_pictures(folder, splits=("train", "test"), names=("cat", "dog")):
    """<folder>/<split>/<class>/<picture>: two of noise for each."""
    draw = np.random.default_rng(0)
    for split in splits:
        for name in names:
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = draw.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")


def test_names_of_results_stay_in_their_folder(tmp_path, capsys):
    assert command.main(["recipe=digits", "name=../stray", f"out={tmp_path}/out"]) == 2
    assert "name is '../stray': give a name for files" in capsys.readouterr().err


def test_no_public_name_is_a_module():
    modules = {path.stem for path in pathlib.Path(training.__file__).parent.glob("*.py")}
    assert not modules & set(training.__all__)


def test_interrupts_are_noticed_once():
    before = signal.getsignal(signal.SIGINT)
    try:
        stop = command.stop_on_interrupt()
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe=nothing"], "unknown recipe 'nothing': choose from cifar10"),
        (
            ["recipe=digits", "recipe.epoch=3"],
            "unknown key 'recipe.epoch': choose from recipe.average, recipe.batch_size, recipe.epochs, ",
        ),
        (
            ["recipe=cifar10_vit", "model.blocks=3"],
            "unknown key 'model.blocks': choose from model.depth, model.heads, ",
        ),
        (["recipe=digits", "recipe.epochs=0"], "0 epochs and batches of 64: both must be at least 1"),
    ],
)
def test_bad_options_are_one_line(tmp_path, capsys, overrides, message):
    assert command.main([*overrides, f"out={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
