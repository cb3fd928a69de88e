"""The speed benchmark, at a tiny size: all contestants run on the same images; ratios are those of the rounds."""

import concurrent.futures
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import tiny_cnn as tiny

import evomask
from evomask import classifiers, presets
from evomask.classifiers import cnn
from evomask.types import InputError
from experiments import speed
from experiments.speed import Contestant
from experiments.timing import memory, phases, rivals, sequential


def write_tiny(folder):
    path = folder / "tiny.safetensors"
    cnn.save(tiny(), path)
    return path


def test_forward_passes_are_those_of_the_search():
    seen = []
    settings = presets.smallest(144)

    def count(images):
        seen.append(images.shape[0])
        return images.mean((1, 2))[:, :2]

    classifier, image = evomask.as_classifier(count), np.ones((1, 8, 8, 3), np.float32)
    speed.compile_forward(classifier, image, settings)(classifier, image)
    assert set(seen) == {16, 8}  # masks, and inverses of the hopeful
    seen.clear()
    speed.compile_forward(classifier, image, settings, 5)(classifier, image)
    assert set(seen) == {16, 8, 5}
    assert sum((stage.generations + 1) * settings.generation_cost(stage) for stage in settings.stages) == 144


def test_forward_passes_of_equal_stages_are_all_there():
    """And one after the other: a compiler finds out what is computed twice, and what could be at the same time."""
    settings, looked = presets.smallest(1000), []
    assert settings.stages[0].rounds == settings.stages[1].rounds

    def look(images):
        looked.append(images[:, 0, 0, 0])
        return np.stack([images.mean((1, 2, 3)), np.zeros(len(images), np.float32)], 1)

    def network(images):
        return jax.pure_callback(look, jax.ShapeDtypeStruct((len(images), 2), jnp.float32), images)

    classifier, image = evomask.as_classifier(network), np.ones((1, 8, 8, 3), np.float32)
    jax.block_until_ready(speed.compile_forward(classifier, image, settings)(classifier, image))
    shades = np.concatenate(looked)
    assert len(shades) == len(set(shades.tolist())) == settings.evolving
    np.testing.assert_array_equal(shades, np.sort(shades))


def test_what_is_asked_beside_the_generations_is_all_that_a_black_box_is_asked():
    asked = 0

    def bright(images):
        nonlocal asked
        asked += len(images)
        return np.stack([images[:, 2:4, 2:4].mean((1, 2, 3)), np.full(len(images), 0.3)], 1)

    box, image = evomask.BlackBox(bright, 2), np.ones((8, 8, 1), np.float32)
    settings = presets.evomask(400).replace(patience=None, showings=16, draws=20, draws_apart=4)
    beside = speed.asked_beside(box, image, 0, settings)  # but for what fills last batches up
    assert beside >= 16 + 20 and 0 <= asked - settings.evolving - beside <= 16
    assert speed.asked_beside(box, image, 0, presets.smallest(144)) == 0


def test_everybody_takes_part(tmp_path, capsys, monkeypatch):
    """One round with a network of 12 x 12 pixels, by the command line."""
    monkeypatch.setenv("COLUMNS", "120")  # so that no name is folded, however long a figure gets on a slow machine
    command = ["model=trained", f"model.path={write_tiny(tmp_path)}", "preset=dissertation", "budget=320"]
    command += ["pairs=1", "rise=20"]
    assert speed.main([*command, "runs=[forward,explain,dissertation,sequential,published,rise]"]) == 0
    out = capsys.readouterr().out
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in out.splitlines()
        if line.startswith("│")
    }
    assert {name: rows[name][1] for name in speed.RUNS[:6]} == {
        "forward": "320",
        "explain": "320",
        "dissertation": "320",
        "sequential": "320",
        "published": "320",
        "rise": "20",
    }
    assert all(float(rows[name][2]) > 0 for name in speed.RUNS[:6])
    for loop in ("sequential", "published"):
        quotient = float(rows[loop][4]) / float(rows["dissertation"][4])
        assert float(rows[f"{loop} / dissertation, same evaluations"][0]) == pytest.approx(quotient, rel=0.2)
        assert f"{loop} / explain, to as good a mask" in rows
    assert speed.AS_CONFIDENT in rows and "rise / explain, one explanation" in rows
    assert "peak memory of this process, MiB: " in out


def test_turns_are_taken_round_by_round():
    order = []
    who = [Contestant(name, lambda name=name: order.append(name) or name, 10, 1.5, 2**20) for name in "ab"]
    results, times = speed.take_turns(who, 2)
    assert order == list("ababab") and results == {"a": "a", "b": "b"}
    assert [len(taken) for taken in times.values()] == [2, 2]
    cells = [list(column.cells) for column in speed.table(who, {"a": np.array([1.0, 3.0]), "b": np.ones(2)}).columns]
    assert [column[0] for column in cells] == ["a", "1.5", "10", "2", "1", "200", "1"]


def test_ratios_are_those_of_the_rounds():
    who = [Contestant(name, None, images, 0.0) for name, images in (("forward", 100), ("explain", 100), ("Other", 50))]
    times = {
        "forward": np.array([1.0, 2.0, 1.0]),
        "explain": np.array([1.1, 2.1, 1.3]),
        "Other": np.array([1.0, 1.0, 1.0]),
    }
    cells = [list(column.cells) for column in speed.ratios(who, times, {}).columns]
    assert cells[0] == ["explain / forward, per image", "share of the network in explain", "Other / forward, per image"]
    assert [column[0] for column in cells[1:]] == ["1.1", "1.05", "1.3"]
    assert cells[1][1:] == ["90.9%", "2"]


def test_shares_of_the_phases():
    names = ("explain", "phase: breed", "phase: evaluate")
    times = {name: np.array(taken) for name, taken in zip(names, ([4.0, 2.0], [1.0, 0.25], [2.0, 1.5]))}
    cells = [
        list(column.cells)
        for column in speed.ratios([Contestant(name, None, 10, 0.0) for name in names], times, {}).columns
    ]
    assert cells[0] == ["share of breed in explain", "share of evaluate in explain", "share of all else in explain"]
    assert cells[2:] == [["0.125", "0.5", "0.125"], ["0.25", "0.75", "0.25"]]


@pytest.mark.parametrize("preset", [presets.smallest(144), presets.dissertation(320)], ids=["evomask", "dissertation"])
def test_a_phase_is_what_the_search_does(preset):
    classifier, image = tiny(), np.asarray(jax.random.uniform(jax.random.key(0), (12, 12, 3)))
    preset = preset.replace(stages=(preset.stages[0], preset.stages[-1]))  # each compiles every phase
    found = {name: run() for name, run in phases.compile_phases(classifier, image, 1, preset).items()}
    screened = {"screen", "learn"} if preset.operators.screening else set()
    assert found.keys() == {"breed", "rasterize", "evaluate", "score"} | screened
    for index, stage in enumerate(preset.stages):
        children, masks, seen = (found[name][index] for name in ("breed", "rasterize", "evaluate"))
        num = stage.num_offspring
        bred = num * (preset.operators.screening.candidates if screened else 1)
        assert children.shape == (bred, stage.genes, 3) and children[..., :2].max() < 12
        assert masks.shape == (num, 12, 12) and 0 < masks.mean() < 1
        area = seen.area * 144
        np.testing.assert_allclose(area, np.round(area), atol=1e-3)
        assert ((seen.confidence > 0) & (seen.confidence < 1)).all()
        assert {added.shape for added in jax.tree.leaves(found["score"][index])} <= {(12, 12), (2, 12, 12), (2,)}
        if screened:
            assert found["screen"][index].shape == (num, stage.genes, 3) and found["learn"][index].known[0].sum() > num


def test_explain_is_asked_for_the_confidence_of_the_published_mask():
    classifier, image = tiny(), np.random.default_rng(0).uniform(size=(12, 12, 3)).astype(np.float32)
    preset, published = presets.smallest(144), presets.dissertation(320)
    label = int(np.argmax(classifier(image[None])[0]))
    who = speed.as_confident(classifier, image, label, preset, published)
    found = evomask.explain(classifier, image[None], key=jax.random.key(speed.KEY), labels=[label], config=published)
    ratio = found.masked_confidence[0] / found.confidence[0]
    assert who.images == preset.evaluations
    assert who.run.keywords["config"].confidence_ratio == pytest.approx(min(ratio, 1))


def test_share_to_match():
    """The fifth of ten generations is the first that is feasible, small enough and confident enough."""
    area = np.array([0.1, 0.5, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1])
    history = evomask.History(
        fitness=-area[None],
        confidence=np.array([[0.9, 0.9, 0.9, 0.5] + [0.9] * 6]),
        area=area[None],
        feasible=np.array([[False] + [True] * 9]),
        evaluations=np.arange(10, 101, 10)[None],
    )
    found = type("Found", (), {"history": history, "evaluations": np.array([100])})
    loop = lambda area, confidence: sequential.Found(None, None, None, [sequential.Seen(0, 0, confidence, area)], 100)
    assert speed.share_to_match(found, loop(0.25, 0.8)) == 0.5
    assert speed.share_to_match(found, loop(0.6, 0.8)) == 0.2
    assert speed.share_to_match(found, loop(0.05, 0.8)) is None
    assert speed.share_to_match(found, loop(0.5, 0.95)) is None


class Lax:
    """The operations in JAX, to check the descriptions where no other framework is installed."""

    def scale(self, x, factor, offset):
        return x * factor + offset

    def conv(self, x, kernel, bias, stride, pads, groups):
        layout, pads = ("NCHW", "HWIO", "NCHW"), (pads, pads)
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups
        )
        return x + bias[None, :, None, None]

    def clip(self, x, high):
        return jnp.clip(x, 0.0, high)

    def gelu(self, x):
        return jax.nn.gelu(x)

    def add(self, x, y):
        return x + y

    def halve(self, x):
        n, c, height, width = x.shape
        return x[:, :, : height // 2 * 2, : width // 2 * 2].reshape(n, c, height // 2, 2, width // 2, 2).max((3, 5))

    def mean(self, x):
        return x.mean((2, 3))

    def dense(self, x, kernel, bias):
        return x @ kernel + bias[None]


@pytest.mark.parametrize("name", ["tiny", "imagenette"])
def test_descriptions_for_other_frameworks(name):
    classifier = tiny() if name == "tiny" else dataclasses.replace(classifiers.load(name), image_shape=(64, 64, 3))
    images = jax.random.uniform(jax.random.key(0), (2, *classifier.image_shape))
    described = jax.jit(lambda x: rivals.describe(jax.device_get(classifier), Lax(), x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(described(images), jax.jit(lambda c, x: c(x))(classifier, images), atol=1e-3)


@pytest.mark.parametrize(("name", "packages"), [("PyTorch", ["torch"]), ("ONNX Runtime", ["onnx", "onnxruntime"])])
def test_other_frameworks_give_the_same_logits(name, packages):
    for package in packages:
        pytest.importorskip(package)
    classifier = tiny()
    forward = rivals.RIVALS[name](classifier)
    images = np.asarray(jax.random.uniform(jax.random.key(0), (3, *classifier.image_shape)))
    np.testing.assert_allclose(forward(images.copy()), classifier(images), atol=1e-4)
    np.testing.assert_allclose(forward(images[1:2].copy()), classifier(images[1:2]), atol=1e-4)


def test_who_cannot_take_part_is_named(monkeypatch, capsys):
    def missing(classifier):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(rivals, "RIVALS", {"PyTorch": missing, "Other": lambda c: rivals.describe(c, None, None)})
    plain = evomask.as_classifier(lambda images: images.mean((1, 2)))
    assert list(speed.frameworks(plain, np.ones((4, 4, 3), np.float32), 8, [1])) == []
    err = capsys.readouterr().err
    assert "PyTorch: not installed (torch)" in err and "Other: left out, no description of a FunctionClassifier" in err
    with pytest.raises(InputError, match="wrong gives logits that are 1 away"):
        speed.check_same(lambda x: x.mean((1, 2)) + 1, plain, np.ones((4, 4, 3), np.float32), "wrong")


def test_frameworks_run_at_their_best_batch(monkeypatch):
    sizes = []
    function = lambda x: sizes.append(len(x)) or x.mean((1, 2))
    paces = iter([3.0] * 3 + [2.0] * 3)  # of one image, then of two
    monkeypatch.setattr(speed, "seconds", lambda f: (next(paces), f()))
    monkeypatch.setattr(rivals, "RIVALS", {"Other": lambda c: function})
    plain = evomask.as_classifier(lambda images: images.mean((1, 2)))
    (who,) = speed.frameworks(plain, np.ones((4, 4, 3), np.float32), 5, [1, 2])
    assert who.name == "Other, batch 2" and who.images == 5
    sizes.clear()
    who.run()
    assert sizes == [2, 2, 1]


def test_naps_are_those_of_the_search(monkeypatch):
    naps = []
    monkeypatch.setattr(speed.time, "sleep", naps.append)
    alone, search, box = speed.napping(192)
    settings = presets.smallest(192)
    generations = sum(stage.rounds for stage in settings.stages)
    naps.clear()
    alone.run()
    called = len(naps)
    assert 2 * generations < called < 2 * generations + 40  # and the verification, one image at a time
    assert naps == [1e-3] * called and {who.images for who in (alone, search, box)} == {settings.evaluations}
    naps.clear()
    found = search.run()
    assert not naps
    np.testing.assert_array_equal(box.run().mask, found.mask)
    assert naps == [1e-3] * called
    times = {"naps alone": np.array([1.0]), "search alone": np.array([3.0]), "black box": np.array([4.2])}
    cells = [list(column.cells) for column in speed.ratios([alone, search, box], times, {}).columns]
    assert cells[0] == ["black box / naps alone", "black box / naps alone and search alone"] and cells[1] == [
        "4.2",
        "1.05",
    ]


def test_the_peak_of_an_accelerator_stands_beside_that_of_the_process(monkeypatch):
    assert memory.peak().isdigit()

    class Accelerator:
        def memory_stats(self):
            return {"peak_bytes_in_use": 3 * 2**20}

        def __str__(self):
            return "cuda:0"

    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator()])
    host, device = memory.peak().split(", ")
    assert int(host) > 0 and device == "cuda:0 3"


class Here:
    """Stands for a pool of one spawned process: the test above has compiled in this one what it would compile."""

    def __init__(self, workers, context, *_, **__):
        assert workers == 1 and context.get_start_method() == "spawn"  # a process that starts with nothing

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task, *given):
        pickle.dumps((task, given))  # as it must be, to be sent
        done = concurrent.futures.Future()
        done.set_result(task(*given))
        return done


def test_the_memory_of_a_stream(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", Here)
    command = ["model=trained", f"model.path={write_tiny(tmp_path)}", "preset=dissertation", "budget=320"]
    assert speed.main([*command, "stream=[2]"]) == 0
    cells = [cell.strip() for cell in capfd.readouterr().out.splitlines()[-2].split("│")[1:-1]]
    assert cells[0] == "2" and float(cells[1]) > 100 and float(cells[2]) > 0


def test_the_memory_of_a_slide(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", Here)
    monkeypatch.setenv("COLUMNS", "200")
    assert speed.main(["model=cifar10", "budget=500", "slide=[200]"]) == 0
    cells = [cell.strip() for cell in capfd.readouterr().out.splitlines()[-2].split("│")[1:-1]]
    assert cells[0] == "200" and float(cells[1]) > 100 and float(cells[2]) > 0
    assert "of 49 tiles, the photograph among them; in [(4, 2)] " in cells[3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pairs=0", "pairs is 0: give a whole number of 1 or more"),
        ("rise=0", "rise is 0: give a whole number of 1 or more"),
        ("naps=0.5", "naps is 0.5: give a whole number of 1 or more"),
        ("matching=0", "matching is 0: give a whole number of 1 or more"),
        (
            "runs=[walk]",
            "runs has walk: choose from forward, explain, dissertation, sequential, published, rise, blackbox, "
            "phases, frameworks",
        ),
        ("stream=[0]", "stream has 0: give whole numbers of images"),
        ("slide=[0.5]", "slide has 0.5: give whole numbers of pixels a side"),
    ],
)
def test_bad_settings_are_refused(capsys, override, message):
    assert speed.main([override]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
