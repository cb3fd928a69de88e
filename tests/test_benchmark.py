"""Benchmarks: what is measured, what a run leaves on disk, how it is resumed, and that every experiment runs."""

import functools
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import kill_sweep
import numpy as np
import oracles
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image
from pyarrow import parquet

import evomask
from evomask import baselines
from evomask.measures import faithfulness, metrics, thresholding
from evomask.measures.budget import UnequalBudgets
from evomask.questions import ask
from evomask.types import Status, record, static
from experiments import benchmark
from experiments.benchmarks import imagesets, jobs, measured, protocol, runs, sources, sweeps
from experiments.results import cells
from experiments.shared import cli

SIDE = 16
NETWORK = ["model=custom", "model.network._target_=test_benchmark.tiny"]
TINY = [*NETWORK, "data=samples", "data.num=2", "target=predicted", "cut_steps=8", "auc_steps=8", "fidelity_subsets=8"]
# A search that compiles fast, and is one program for all of the tests that do not vary it.
SEARCH = ["budget=320", "stages=flat", "crossover=one_point", "mutation=replace", "preset.stages.gross.genes=8",
          "++preset.stages.gross.penalty=null"]  # fmt: skip
EXPERIMENTS = sorted(path.stem for path in (cli.CONF / "experiment").glob("*.yaml"))


@record
class Tiny(oracles.ConvOracle):
    """A convolutional network of three classes that says what it takes."""

    image_shape: tuple[int, int, int] = static(default=(SIDE, SIDE, 3))


def tiny():
    network = oracles.conv()
    return Tiny(8.0 * network.first, network.second, network.head)


def blind():
    """A network without feature maps: a plain function."""
    return evomask.as_classifier(lambda images: images.mean((1, 2)), image_shape=(SIDE, SIDE, 3))


def run(out, *overrides):
    return benchmark.main([*overrides, f"out={out}"])


def finished_runs(out, experiment="benchmark"):
    return [runs.load(folder) for folder in runs.find(out, experiment)]


def composed(*overrides, **options):
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return compose("benchmark", list(overrides), **options)


def jobs_of(experiment):
    """The overrides of the jobs of an experiment's own sweep that differ from its first in one key at most."""
    params = composed(f"+experiment={experiment}", return_hydra_config=True).hydra.sweeper.params
    given = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in params.items()])
    every = BasicSweeper.split_arguments(given, None)[0]
    return [job for job in every if sum(one != first for one, first in zip(job, every[0])) <= 1]


# ------------------------------------------------------------------------------------------------------- experiments


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_job_of_an_experiment_can_be_built(name):
    found = []
    for overrides in jobs_of(name):
        config = composed(f"+experiment={name}", *overrides)
        if config.method["_target_"] == jobs.OURS:
            built = cli.instantiate(OmegaConf.create(jobs.preset(config)))
            assert 0.9 * config.budget <= built.evaluations <= config.budget, overrides
            found.append(f"{config.model} {config.target} {jax.tree.structure(built)} {jax.tree.leaves(built)}")
        else:
            found.append(
                f"{config.model} {config.target} {cli.instantiate(config.method)} {config.budget} {config.preset.fill}"
            )
    assert len(set(found)) == len(found) > 1, "two jobs are the same"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_file_says_how_it_is_run(name):
    text = (cli.CONF / "experiment" / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n# ")
    assert f"#   evomask benchmark -m +experiment={name}" in text
    assert "params:" in text or "- /sweep:" in text


# What is run here of a sweep: jobs that share a program. The test above builds all of them.
SWEPT = {
    "budget": ["budget=320", "method=evomask,random_patches"],
    "chromosome": ["chromosome=cells", "preset.stages.gross.genes=64"],
    "crossover": ["crossover=one_point"],
    "fill": ["fill=grey,white", "method=evomask"],
    "fitness": ["fitness=smallest_complete"],
    "hierarchy": ["stages=flat"],
    "inverses": ["inverses=4", "stages=as_preset", "preset.stages.middle.genes=8", "preset.stages.fine.genes=8"],
    "mutation": ["mutation=replace"],
    "negative_reinforcement": ["reinforcement=evomask_with"],
    "patches": ["genes=8", "stages=as_preset"],
    "population_generations": [
        "population=12",
        "stages=as_preset",
        "preset.stages.middle.genes=8",
        "preset.stages.fine.genes=8",
    ],
    "radii": ["preset.stages.gross.radii=[0.03,0.06,0.12]", "stages=as_preset"],
    "scoring": ["scoring=effects", "preset.score_inside_only=false"],
    "screening": ["preset.operators.screening.candidates=4"],
    "selection": ["selection=binary_tournament"],
    "shuffled": ["seeds=[0]", "method=evomask,centred_square"],
    "survival": ["survival=plus"],
    "trust_seeds": ["seeds=[0]", "method=evomask,centred_square"],
    "trust_demands": ["preset.demand=complete", "method=evomask,centred_square"],
    "trust_soundness": ["target=predicted", "method=evomask,centred_square"],
}
QUICK = ["trust.draws=8", "trust.draws_apart=4", "trust.prefixes=4", "perturbation=none"]


@pytest.fixture
def remembered(monkeypatch):
    """Searches are not made again: whatever is asked for, the answer is that of one search, of the image that is shown.

    Configurations, budgets, masks' verdicts, rows and files are real.
    """
    images, found = explained()
    known = {image.tobytes(): index for index, image in enumerate(images.pixels)}

    def explain(classifier, questions, *, key, config):
        index = known.get(np.asarray(questions[0].image, np.float32).tobytes(), 0)
        return found[index : index + 1]

    monkeypatch.setattr(protocol, "explain_questions", explain)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if not name.startswith("complete_area")])
def test_every_experiment_runs(name, tmp_path, remembered):
    some = SWEPT.get(name, ["method=evomask,centred_square"]) + QUICK * name.startswith("trust")
    some = some + ["data=planted", "data.candidates=8"] * (name == "planted")
    given = {text.partition("=")[0] for text in some} | ({"mutation"} if name == "chromosome" else set())
    given |= {"preset.stages.gross.genes"} if name == "patches" else set()
    small = [text for text in TINY + SEARCH if text.partition("=")[0] not in given]
    assert run(tmp_path, "-m", f"+experiment={name}", *small, *some) == 0
    found = finished_runs(tmp_path, name)
    assert found and all(len(one.rows) == 2 for one in found)
    for one in found:
        assert one.record["experiment"] == name
        assert (one.rows["evaluations"] <= one.record["budget"]).all()
        ours = one.record["choices"]["method"] == "evomask"
        assert one.rows["rule"].tolist() == 2 * [
            "own" if ours or one.record["method"] == "random_patches" else "complete"
        ]
    if name == "planted":
        assert found[0].rows["iou"].between(0, 1).all() and runs.images(found[0].folder)["truth"].sum() == 2 * 36


def test_all_methods_on_one_footing(tmp_path, remembered):
    assert run(tmp_path, "-m", "+experiment=complete_area_cifar10", *TINY, *SEARCH) == 0
    found = finished_runs(tmp_path, "complete_area_cifar10")
    assert {one.record["method"] for one in found} == {*baselines.BASELINES, "evomask", "dissertation", "random_search"}
    assert runs.common_budget(found) == 320
    assert len({tuple(one.rows["image"]) for one in found}) == len({one.record["images"]["file"] for one in found}) == 1
    for one in found:
        rows, cuts = one.rows, one.cuts
        assert list(rows) == list(runs.ROWS) and list(cuts) == list(runs.CUTS)
        assert (rows["method"] == one.record["method"]).all() and (rows["label"] == rows["predicted"]).all()
        assert (rows["complete"] == (rows["sufficient"] & rows["necessary"])).all()
        assert (rows["complete_area"].isna() == ~rows["complete"]).all()
        assert set(rows["status"]) <= {status.name.lower() for status in Status}
        assert (rows["evaluations"] == rows["forward"] + rows["backward"]).all()
        own = rows["rule"][0] == "own"
        assert (rows["cut_evaluations"] == (0 if own else 16)).all()
        rules = ["own"] * own + ["complete", "keep_class", "best_cp", "area_5", "area_10", "area_20"]
        assert cuts["rule"].tolist() == 2 * rules
        assert cuts.loc[cuts["rule"] == "area_20", "area"].tolist() == pytest.approx(2 * [51 / 256])
        headline = cuts[cuts["rule"] == rules[0]].reset_index(drop=True)
        assert headline.equals(rows[list(cuts)])
        arrays = runs.arrays(one.folder)
        assert arrays["mask"].mean((1, 2)) == pytest.approx(rows["area"])
        assert ("stage_masks" in arrays) == (one.config["method"]["_target_"] == jobs.OURS)


# -------------------------------------------------------------------------------------------------- what is measured


@functools.cache
def explained(seed=0):
    """The two sample images of `TINY`, their labels, and what explain makes of them under `SEARCH`."""
    config = composed(*SEARCH)
    source = imagesets.samples((SIDE, SIDE, 3), 1.0)
    found = imagesets.select(source, tiny(), 2, False, "predicted")
    settings = cli.instantiate(OmegaConf.create(jobs.preset(config)))
    return found, evomask.explain(tiny(), found.pixels, key=jax.random.key(seed), labels=found.labels, config=settings)


def test_ours_is_what_explain_says(tmp_path):
    assert run(tmp_path, *TINY, *SEARCH, "seeds=[0,3]", "chunk=1") == 0
    (one,) = finished_runs(tmp_path)
    arrays = runs.arrays(one.folder)
    assert one.rows[["seed", "index"]].to_numpy().tolist() == [[0, 0], [0, 1], [3, 0], [3, 1]]
    for seed in (0, 3):
        images, found = explained(seed)
        rows, these = one.rows[one.rows["seed"] == seed], (one.rows["seed"] == seed).to_numpy()
        for name in (
            "area",
            "masked_confidence",
            "inverse_confidence",
            "blank_confidence",
            "masked_label",
            "inverse_label",
            "cp",
            "cp_floored",
            "sufficient",
            "necessary",
            "complete",
            "predicted",
            "evaluations",
            "label",
        ):
            np.testing.assert_array_equal(rows[name], getattr(found, name), err_msg=name)
        assert rows["status"].tolist() == [Status(int(status)).name.lower() for status in found.status]
        assert rows["image"].tolist() == list(images.names)
        np.testing.assert_array_equal(arrays["mask"][these], found.mask)
        np.testing.assert_array_equal(arrays["stage_masks"][these], found.stage_masks)
        np.testing.assert_array_equal(arrays["score"][these], found.score.astype(np.float16))
        np.testing.assert_array_equal(arrays["history_area"][these], found.history.area)


def test_a_baseline_is_cut_and_measured_as_the_library_does(tmp_path):
    assert run(tmp_path, *TINY, "method=rise", "budget=40", "fill=grey") == 0
    (one,) = finished_runs(tmp_path)
    images, labels = (runs.images(one.folder)[name] for name in ("images", "labels"))
    images = images.astype(np.float32) / np.float32(255)
    blanks = np.full_like(images, 0.5)
    grey = evomask.fills.Constant(0.5)
    score = baselines.RISE(fill=grey)(tiny(), images, labels, key=jax.random.key(0), budget=40)
    np.testing.assert_array_equal(runs.arrays(one.folder, "score")["score"], np.asarray(score).astype(np.float16))
    sweep = thresholding.sweep(tiny(), images, labels, score, blanks, steps=8)
    for rule, cut in (
        ("complete", thresholding.smallest_complete(sweep)),
        ("best_cp", thresholding.best_cp(sweep)),
        ("area_10", thresholding.fixed_area(score, 0.1)),
    ):
        rows = one.cuts[one.cuts["rule"] == rule]
        verdict = metrics.judge(tiny(), images, labels, cut.mask, blanks)
        np.testing.assert_array_equal(rows["area"], cut.area)
        np.testing.assert_allclose(rows["masked_confidence"], verdict.confidence, rtol=1e-5)
        np.testing.assert_allclose(rows["inverse_confidence"], verdict.inverse_confidence, rtol=1e-5)
        np.testing.assert_array_equal(rows["complete"], metrics.complete(verdict))
    asked = (tiny(), images, labels, score, blanks)
    subsets = measured.fidelity_subsets(8, images.shape[1:3])
    for name, values in (
        ("insertion_auc", metrics.insertion_auc(*asked, steps=8)),
        ("deletion_auc", metrics.deletion_auc(*asked, steps=8)),
        ("calibration", faithfulness.calibration(*asked, steps=8)),
        ("mu_fidelity", metrics.mu_fidelity(*asked, subsets)),
        ("infidelity", faithfulness.infidelity(*asked, subsets)),
    ):
        np.testing.assert_allclose(one.rows[name], values, rtol=1e-5, err_msg=name)
    assert one.rows["evaluations"].tolist() == [40, 40] and one.rows["backward"].tolist() == [0, 0]


def test_a_heat_map_is_compared_with_that_for_shuffled_weights(tmp_path):
    assert run(tmp_path, "-m", *TINY, "budget=40", "seeds=[0,3]", "shuffled=true", "method=rise,centred_square") == 0
    found = {one.record["method"]: one for one in finished_runs(tmp_path)}
    # This one never looks at the network.
    assert found["centred_square"].rows["shuffled"].tolist() == pytest.approx([1.0] * 4)
    images = runs.images(found["rise"].folder)["images"][:1].astype(np.float32) / np.float32(255)
    for seed, row in ((0, 0), (3, 2)):
        key_shuffle, key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
        network = metrics.shuffle_weights(key_shuffle, tiny())
        label = np.argmax(network(jnp.asarray(images)), 1)
        score = baselines.RISE()(network, images, label, key=key, budget=40)
        true = runs.arrays(found["rise"].folder, "score")["score"][row].astype(np.float32)
        expected = metrics.rank_correlation(true, score[0])
        assert found["rise"].rows["shuffled"][row] == pytest.approx(float(expected), abs=1e-3)
    assert run(tmp_path, *TINY, "budget=40", "seeds=[0,3]", "method=rise") == 0
    assert sum(one.rows["shuffled"].isna().all() for one in finished_runs(tmp_path)) == 1


def test_what_several_metrics_need_is_asked_once():
    shown = []

    def predict(pictures):
        shown.append(len(pictures))
        return np.stack([9 * pictures.mean((1, 2, 3)), 1 - pictures.mean((1, 2, 3))], 1)

    classifier = evomask.BlackBox(predict, num_classes=2, batch_size=1)
    images = np.linspace(0, 1, 8 * 8, dtype=np.float32).reshape(1, 8, 8, 1)
    rules = protocol.Protocol(0.9, 4, (0.25,), auc_steps=16, fidelity_subsets=10)
    asked = measured.Asked(images[..., 0], classifier, images, 0 * images, np.array([0]), None, rules)

    def pictures(*names):
        shown.clear()
        for name in names:
            measured.METRICS[name].of(asked)
        return sum(shown)

    assert pictures("deletion_auc", "calibration") == 16 + 1
    assert pictures("calibration", "deletion_auc", "mu_fidelity") == 10 + 1 and pictures("infidelity") == 0


def test_a_heat_map_that_is_not_finite_is_a_failure():
    found = protocol.Found(np.full((1, 8, 8), np.nan, np.float32), None, [evomask.budget.Spent(1)])
    classifier = evomask.as_classifier(lambda images: 9.0 * images.mean((1, 2)))
    red = np.broadcast_to(np.eye(3, dtype=np.float32)[0], (8, 8, 3))
    asked = posed(red[None], classifier)
    rules = protocol.Protocol(0.9, 4, (0.25,), 4, 4)
    chunk = protocol.measure(jax.random.key(0), found, classifier, asked, None, rules)
    assert chunk.rows["reason"].tolist() == ["not_finite"] and chunk.rows["area"].tolist() == [1.0]
    unknown = ("insertion_auc", "deletion_auc", "calibration", "mu_fidelity", "infidelity", "iou")
    assert all(np.isnan(chunk.rows[name]).all() for name in unknown)


@pytest.mark.parametrize("shape", [(8, 8), (32, 20), (5, 9)])
def test_fidelity_blanks_a_fifth_of_the_cells(shape):
    subsets = measured.fidelity_subsets(50, shape)
    assert subsets.shape == (50, *shape) and subsets.dtype == bool
    assert abs(subsets.mean() - 12 / 64) < 0.03 and len(np.unique(subsets, axis=0)) == 50
    if shape == (32, 20):
        assert (subsets.reshape(50, 8, 4, 20).std(axis=2) == 0).all() and (subsets[:, :, 0] == subsets[:, :, 2]).all()


def test_jobs_that_differ_in_floats_compile_once(tmp_path):
    assert run(tmp_path, "-m", "preset.confidence_ratio=0.9,0.5", *TINY, *SEARCH) == 0
    first, second = sorted(
        (one.record for one in finished_runs(tmp_path)), key=lambda record: record["sittings"][0]["started"]
    )
    assert {first["overrides"]["preset.confidence_ratio"], second["overrides"]["preset.confidence_ratio"]} == {
        "0.9",
        "0.5",
    }
    assert min(first["compile_seconds"], second["compile_seconds"]) == 0.0


# ----------------------------------------------------------------------------------------------------------- images


def tree(folder: Path, **classes: int) -> Path:
    """<folder>/<class>/<number>.png, in one shade for each class."""
    for shade, (name, num) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for number in range(num):
            pixels = np.full((20, 24, 3), 40 * (shade + 1) + number, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def shade(images):
    """Knows three shades, and takes the second for the third."""
    above = images.mean((1, 2, 3)) - 0.25
    return jnp.stack([-above, jnp.full(len(images), -9.0), above], 1)


SHADE = evomask.as_classifier(shade, labels=("dark", "Mid grey", "bright"), image_shape=(8, 8, 3))


def test_images_are_taken_evenly_and_errors_of_the_network_are_left_out(tmp_path):
    tree(tmp_path / "val", dark=3, mid_grey=2, bright=5)
    source = imagesets.tree((8, 8, 3), 1.0, str(tmp_path))
    assert source.classes == ("bright", "dark", "mid_grey")
    found = imagesets.select(source, SHADE, 4, False, "label")
    assert found.names == ("bright/0", "dark/0", "mid_grey/0", "bright/1") and found.labels.tolist() == [2, 0, 1, 2]
    assert (
        found.left_out == 0 and found.images.shape == (4, 8, 8, 3) and found.classes == ("dark", "Mid grey", "bright")
    )
    right = imagesets.select(source, SHADE, None, True, "label")
    assert right.left_out == 2 and right.names == (
        "bright/0", "dark/0", "bright/1", "dark/1", "bright/2", "dark/2", "bright/3", "bright/4")  # fmt: skip
    predicted = imagesets.select(source, SHADE, None, True, "predicted")
    assert len(predicted.names) == 10 and predicted.left_out == 0
    assert imagesets.tree((8, 8, 3), 1.0, str(tmp_path), skip=["dark"]).classes == ("bright", "mid_grey")


def test_of_many_classes_some_are_taken_from_all_over():
    labels = np.repeat(np.arange(100, dtype=np.int32), 2)
    names = [f"{label}/{number}" for label in range(100) for number in range(2)]
    source = imagesets.Source(names, lambda index: np.zeros((8, 8, 3), np.uint8), labels, tuple(map(str, range(100))))
    found = imagesets.select(source, SHADE, 20, False, "predicted")
    taken = np.sort([int(name.split("/")[0]) for name in found.names])
    assert len(set(taken)) == 20 and np.diff(taken, prepend=0, append=99).max() <= 8
    every = imagesets.select(source, SHADE, 100, False, "predicted")
    assert every.names == tuple(f"{label}/0" for label in range(100))


def test_shipped_and_generated_images():
    small, large = imagesets.samples((32, 32, 3), 1.0), imagesets.samples((224, 224, 3), 0.875)
    assert len(small.names) == 10 and small.labels.tolist() == [8, 1, 6, 3, 1, 0, 7, 9, 5, 7]
    assert (
        large.labels is None
        and tuple(large.names) == ("cat", "coffee", "rocket")
        and large.read(0).shape == (224, 224, 3)
    )
    made = imagesets.planted((SIDE, SIDE, 3), 1.0, candidates=8, seed=0)
    again = imagesets.planted((SIDE, SIDE, 3), 1.0, candidates=8, seed=0)
    np.testing.assert_array_equal(made.read(3), again.read(3))
    assert made.truth.sum((1, 2)).tolist() == [36] * 8
    assert all(len(imagesets.foolbox((side, side, 3), 1.0).names) == 20 for side in (32, 224))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=cifar10"], "no image set at 'data/cifar-10-python.tar.gz'"),
        (["data=folder", "data.path=nowhere"], "no folder of images at 'nowhere'"),
        (["data=samples", "target=label"], "the images have 10 classes and the classifier 3: set target=predicted"),
        (["data=foolbox"], "the network takes [16, 16, 3]: choose another model"),
        (["data.num=0"], "data.num is 0: give a whole number"),
        (["budget=0"], "budget is 0: give a whole number"),
        (["seeds=[1,1]"], "seeds is [1, 1]: give a list of different integers"),
        (["seeds=3"], "seeds is 3: give a list"),
        (["shuffled=twice"], "shuffled is 'twice': give true or false"),
        (["shuffled=true", "decision=between"], "shuffled=true explains classes, not decision=between"),
        (["target=other"], "target is 'other'"),
        (["method=rise", "method.fill.value=1"], "method.fill cannot be set here"),
        (["method=nothing"], "unknown method 'nothing': choose from"),
        (["stages=flat", "+preset.stages.fine={genes: 8}"], "fine.genes is set, but stages=flat has no stage 'fine'"),
    ],
)
def test_bad_input_gets_one_line_and_no_run(overrides, message, tmp_path, capsys):
    given = {text.partition("=")[0] for text in overrides}
    base = [text for text in TINY if text.partition("=")[0] not in given]
    assert run(tmp_path, *base, *overrides) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and message in errors[0]
    assert runs.find(tmp_path, "benchmark") == []


# ------------------------------------------------------------------------------------------------------- run folders


def test_the_folder_says_everything_and_a_finished_run_is_skipped(tmp_path, capsys):
    assert run(tmp_path, *TINY, "method=random_pixels", "chunk=1") == 0
    (one,) = finished_runs(tmp_path)
    record = one.record
    assert (record["schema"], record["status"], record["hash"], record["method"]) == (
        runs.SCHEMA,
        "finished",
        one.folder.name,
        "random_pixels",
    )
    assert record["images"]["num"] == 2 and record["images"]["left_out"] == 0 and record["budget"] == 2000
    assert record["overrides"]["method"] == "random_pixels" and "out" not in record["overrides"]
    assert record["choices"]["data"] == "samples" and record["versions"]["evomask"] and record["device"]
    assert record["code"].keys() == {"commit", "dirty", "modules", "own"} and record["run_seconds"] > 0
    assert {"evomask.baselines.controls", "evomask.verify", "experiments.benchmarks.protocol"} <= {
        *record["code"]["modules"]
    }
    assert {"oracles", "test_benchmark"} <= {*record["code"]["own"]}  # of the network
    assert one.config["method"]["_target_"] == "evomask.baselines.RandomPixels" and one.config["out"] == str(tmp_path)
    assert runs.done(one.folder) == (2, 2) and runs.status(one.folder) == "finished"
    written = (one.folder / "rows.parquet").stat().st_mtime_ns
    schema = parquet.read_schema(one.folder / "rows.parquet")
    assert schema.names == list(runs.ROWS) and str(schema.field("area").type) == "float"
    assert run(tmp_path, *TINY, "method=random_pixels", "chunk=2") == 0
    assert "finished before" in capsys.readouterr().err
    assert (one.folder / "rows.parquet").stat().st_mtime_ns == written
    before = (one.folder / "rows.parquet").read_bytes()
    assert run(tmp_path, *TINY, "method=random_pixels", "again=true", "chunk=2") == 0
    assert (one.folder / "rows.parquet").stat().st_mtime_ns > written
    assert (one.folder / "rows.parquet").read_bytes() == before  # other chunks, the same rows
    assert len(list(one.folder.glob("chunks/*"))) == 1


def hashes(tmp_path, *overrides):
    """The names of the runs that a command line stands for."""
    names = []
    keep = benchmark._kept
    benchmark._kept = lambda config, job, record: names.append(job.folder.name) or 0
    try:
        assert run(tmp_path / "hashes", *overrides) == 0
    finally:
        benchmark._kept = keep
    return names


def test_the_hash_covers_what_decides_the_numbers_and_nothing_else(tmp_path):
    base = [*TINY, "budget=96"]
    (name,) = hashes(tmp_path, *base)
    for same in (
        ["chunk=3"],
        ["wait=true"],
        ["selection=binary_tournament"],
        ["stages=as_preset"],
        ["data.only_correct=false"],
    ):
        assert hashes(tmp_path, *base, *same) == [name], same
    different = [
        ["budget=97"], ["seeds=[1]"], ["seeds=[0,1]"], ["fill=grey"], ["data.num=3"], ["cut_steps=9"], ["auc_steps=9"],
        ["fidelity_subsets=9"], ["cut_areas=[0.1]"], ["selection=rank"], ["preset.confidence_ratio=0.8"],
        ["stages=flat"], ["method=rise"], ["model.network._target_=test_benchmark.blind"],
    ]  # fmt: skip
    found = [
        hashes(tmp_path, *[t for t in base if t.partition("=")[0] != d[0].partition("=")[0]], *d)[0] for d in different
    ]
    assert len({name, *found}) == len(different) + 1
    rise = hashes(tmp_path, *base, "method=rise")
    assert hashes(tmp_path, *base, "method=rise", "mutation=move", "stages=flat") == rise  # not its business
    assert hashes(tmp_path, *base, "method=rise", "method.keep=0.4") != rise
    assert runs.digest({"b": [1, 0.5], "a": np.arange(3, dtype=np.int32)}) == "59023dea0c913a88"


OWN = """
import jax.numpy as jnp
from own_part import HALF

def method(classifier, images, labels, *, key, budget):
    classifier(images)
    return jnp.full(images.shape[:3], HALF)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of the user's own, with a method in it and a part of that in a second file."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_method.py").write_text(OWN)
    (tmp_path / "own_part.py").write_text("HALF = 0.5\n")
    yield tmp_path
    for name in ("own_method", "own_part"):
        sys.modules.pop(name, None)
        sources._LOADED.pop(name, None)


def test_a_file_of_ones_own_that_is_edited_is_another_run_and_the_record_names_it(own, capsys):
    base = [*TINY, "method=centred_square", "method._target_=own_method.method", "+method._partial_=true", "budget=40"]

    def newest():
        assert run(own / "out", *base) == 0
        found = finished_runs(own / "out")
        return max(found, key=lambda one: one.record["asked"]), len(found)

    first, num = newest()
    own_files = first.record["code"]["own"]
    assert num == 1 and {"own_method", "own_part"} <= {*own_files} and first.rows["evaluations"].tolist() == [1, 1]
    assert runs.arrays(first.folder, "score")["score"].max() == 0.5
    (own / "own_part.py").write_text("# a word about it\n\nHALF = 0.5\n")
    assert newest()[1] == 1 and "finished before" in capsys.readouterr().err  # a comment decides nothing
    (own / "own_part.py").write_text("HALF = 0.9\n")
    second, num = newest()
    assert num == 2 and runs.arrays(second.folder, "score")["score"].max() == np.float16(0.9)
    differ = {name for name in own_files if own_files[name] != second.record["code"]["own"][name]}
    assert differ == {"own_part"}
    shown = cells.gather(own / "out", "benchmark")
    assert [cell.folder.name for cell in shown.cells] == [second.folder.name]
    assert f"passed over: run {first.folder.name}, made by an earlier state of" in capsys.readouterr().err
    (own / "own_part.py").write_text("HALF = 0.5\n")
    assert newest()[0].folder == first.folder  # back again: nothing is computed, and it is the one that counts
    assert [cell.folder.name for cell in cells.gather(own / "out", "benchmark").cells] == [first.folder.name]


def test_the_digest_is_of_what_decides_the_numbers(own):
    rise, fill = {"_target_": "evomask.baselines.RISE"}, {"_target_": "evomask.fills.Constant"}
    modules = sources.of_run({"method": rise, "fill": fill})["modules"]
    for needed in ("evomask.verify", "evomask.search.evolve", "evomask.measures.metrics", "evomask.baselines.rise",
                   "experiments.benchmarks.protocol", "experiments.benchmarks.jobs"):  # fmt: skip
        assert needed in modules
    for name in modules:  # not what draws, nor what is there for other methods
        assert not name.startswith(
            ("evomask.report", "evomask.baselines.lime", "experiments.results", "evomask.training")
        )
    assert sources.of_run({"method": {"_target_": "evomask.baselines.LIME"}})["modules"].keys() - modules.keys() == {
        "evomask.baselines.lime"
    }
    path = own / "own_part.py"
    before = sources.meaning(path, 0)
    path.write_text('"""About it."""\n\nHALF   =  0.5  # a half\n')
    assert sources.meaning(path, 1) == before
    path.write_text("HALF = 0.25\n")
    assert sources.meaning(path, 2) != before
    path.write_text("HALF = = 1\n")
    assert len(sources.meaning(path, 3)) == 16  # no Python: its bytes


def posed(images, classifier=None):
    """Why the first class, blanked with black?"""
    fill = (evomask.fills.Constant(),)
    return ask(classifier or blind(), images, np.zeros(len(images), np.int32), None, jax.random.key(0), fill)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda images: np.zeros((2, 2)), r"method mine returned float64\[2, 2\]: it should return scores"),
        (lambda images: "a map", "method mine returned <U5"),
        (lambda images: (np.zeros(images.shape[:3]), np.zeros(images.shape[:3])), "returned float64"),
    ],
)
def test_what_a_method_returns_is_checked(answer, message):
    images = np.zeros((1, 4, 4, 3), np.float32)
    method = lambda classifier, images, labels, *, key, budget: answer(images)
    with pytest.raises(evomask.types.InputError, match=message):
        protocol.attribute(method, "mine", blind(), posed(images), jax.random.key(0), 10)


def test_any_callable_is_a_method_and_its_calls_are_counted():
    questions, key = posed(np.ones((1, 4, 4, 3), np.float32)), jax.random.key(0)
    mask = np.tri(4, dtype=bool)[None]
    of = lambda made, budget=10: protocol.attribute(made, "mine", blind(), questions, key, budget)

    def calls(classifier, images, labels, *, key, budget):
        assert classifier.image_shape == (SIDE, SIDE, 3)
        return float(classifier(np.repeat(images, 7, 0))[:, 0].mean()) * np.ones(images.shape[:3])

    found = of(calls)
    assert found.spent == [evomask.budget.Spent(7)] and found.mask is None and found.score.dtype == np.float32
    with pytest.raises(evomask.budget.BudgetExceeded):
        of(calls, 6)
    alone = of(lambda *_, **__: mask)
    np.testing.assert_array_equal(alone.mask, mask)
    assert alone.score.tolist() == mask.astype(np.float32).tolist() and alone.spent == [evomask.budget.Spent()]
    both = of(lambda *_, **__: (np.full((1, 4, 4), 0.5), mask))
    assert both.score.max() == 0.5 and both.mask.tolist() == mask.tolist()

    class Attribution:
        score, mask = np.full((1, 4, 4), 0.25, np.float32), np.tri(4, dtype=bool)[None]

    assert of(lambda *_, **__: Attribution()).mask.tolist() == mask.tolist()
    with pytest.raises(evomask.types.InputError, match="inside jax.jit"):
        of(lambda classifier, images, *_, **__: jax.jit(lambda x: classifier(x))(images))


def damaged_run(tmp_path):
    """A finished run of two chunks."""
    assert run(tmp_path, *TINY, "method=centred_square", "chunk=1") == 0
    return finished_runs(tmp_path)[0].folder


def test_damaged_files_are_named_and_made_again(tmp_path, capsys):
    folder = damaged_run(tmp_path)
    rows = (folder / "rows.parquet").read_bytes()
    first, second = sorted(folder.glob("chunks/*"))
    kept = first.stat().st_mtime_ns
    go = lambda: run(tmp_path, *TINY, "method=centred_square", "chunk=1")
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(evomask.types.InputError, match=f"{second.name} is damaged .*: run the experiment again"):
        runs.arrays(folder, "mask")
    assert go() == 0 and f"{second.name} is damaged; it is computed again" in capsys.readouterr().err
    assert (first.stat().st_mtime_ns, (folder / "rows.parquet").read_bytes()) == (kept, rows)
    for content in ("", "[]", '{"schema": 2}', "{"):
        (folder / "record.json").write_text(content)
        with pytest.raises(evomask.types.InputError, match="record.json"):
            runs.read_record(folder)
        assert runs.find(tmp_path, "benchmark") == [folder]
    assert go() == 0 and "the run starts over" in capsys.readouterr().err
    (folder / "rows.parquet").write_bytes(rows[:50])
    with pytest.raises(evomask.types.InputError, match="rows.parquet cannot be read"):
        runs.load(folder)
    assert go() == 0 and (folder / "rows.parquet").read_bytes() == rows


def test_pictures_and_folders_may_be_called_anything(tmp_path):
    folder = tmp_path / os.fsdecode(b"my pictures \xe9, [1]")
    folder.mkdir()
    for number, name in enumerate((b"m\xe9", b"a, b", b"$x^2")):
        Image.new("RGB", (SIDE, SIDE), (80 * number, 0, 0)).save(tmp_path / "a.png")
        os.replace(tmp_path / "a.png", folder / os.fsdecode(name + b".png"))
    given = [text for text in TINY if not text.startswith("data")]
    given += ["data=listed", f"data.path={folder}", "method=centred_square"]
    assert run(tmp_path / "out", *given) == 0
    (one,) = finished_runs(tmp_path / "out")
    assert one.rows["image"].tolist() == ["$x^2", "a, b", "m%E9"]
    assert OmegaConf.load(one.folder / "config.yaml").data.path == str(folder)
    failed = one.record | {"status": "failed", "error": {"message": f"no such file: {folder}"}}
    runs.write_record(one.folder, failed)  # whatever is in its texts
    assert runs.read_record(one.folder) == failed


def test_what_others_leave_in_a_folder_is_passed_over(tmp_path):
    folder = damaged_run(tmp_path)
    before = runs.arrays(folder, "mask")["mask"]
    chunk = next(folder.glob("chunks/*"))
    for name in ("._0-000000-000001.npz", "0-000000-000001 (copy).npz", "7-000000-000001.npz", "0-000004-000005.npz"):
        (folder / "chunks" / name).write_bytes(chunk.read_bytes())
    (folder / "chunks" / ".ipynb_checkpoints").mkdir()
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".rows.parquet.x1").write_bytes(b"half")
    for name in (".Trash/run", "benchmark/.hidden", "other/link"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".Trash/run/record.json").write_text("")
    (tmp_path / "benchmark/.hidden/record.json").write_text("")
    (tmp_path / "other/link/record.json").symlink_to(tmp_path / "nowhere")
    assert runs.experiments(tmp_path) == ["benchmark"] and runs.find(tmp_path, "benchmark") == [folder]
    assert runs.done(folder) == (2, 2)
    np.testing.assert_array_equal(runs.arrays(folder, "mask")["mask"], before)
    assert run(tmp_path, *TINY, "method=centred_square", "again=true") == 0
    assert (folder / ".DS_Store").exists() and not (folder / ".rows.parquet.x1").exists()


def test_a_sweep_is_declared_beside_its_runs(tmp_path, monkeypatch):
    assert run(tmp_path, "+experiment=planted", *TINY, "method=centred_square") == 0
    written = sweeps.declared(tmp_path, "planted")
    assert written == sweeps.of_conf("planted") and written.values["method"][0] == "evomask"
    monkeypatch.setattr(sweeps, "of_conf", None)  # what conf/ says later, is not asked
    assert sweeps.declared(tmp_path, "planted") == written and written.standard("method") == "evomask"


def test_a_failed_job_is_recorded_and_the_others_go_on(tmp_path, capsys):
    network = ["model=custom", "model.network._target_=test_benchmark.blind"]
    sweep = ["-m", "method=gradcam,occlusion,centred_square", "budget=1"]
    assert run(tmp_path, *sweep, *[text for text in TINY if text not in NETWORK], *network) == 2
    found = {runs.read_record(folder)["method"]: folder for folder in runs.find(tmp_path, "benchmark")}
    assert {method: runs.status(folder) for method, folder in found.items()} == {
        "gradcam": "failed", "occlusion": "failed", "centred_square": "finished"}  # fmt: skip
    error = runs.read_record(found["gradcam"])["error"]
    assert "no features" in error["message"] and "Traceback" in error["traceback"]
    assert runs.read_record(found["occlusion"])["error"]["type"] == "BudgetExceeded"
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]) == 2
    with pytest.raises(evomask.types.InputError, match="is failed .BudgetExceeded"):
        runs.load(found["occlusion"])


def test_unequal_budgets_cannot_be_compared(tmp_path):
    assert run(tmp_path, "-m", *TINY, "method=centred_square", "budget=10,20") == 0
    found = finished_runs(tmp_path)
    with pytest.raises(UnequalBudgets, match="centred_square 10"):
        runs.common_budget(sorted(found, key=lambda one: one.record["budget"]))
    assert runs.common_budget(found[:1]) in (10, 20)
    spent = found[0].rows.assign(forward=100)
    with pytest.raises(UnequalBudgets, match="spent 100"):
        runs.common_budget([found[0]._replace(rows=spent)])


def test_a_run_of_another_process_is_left_to_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "PATIENCE", 0.1)
    (name,) = hashes(tmp_path, *TINY, "method=centred_square")
    folder = tmp_path / "benchmark" / name
    with runs.locked(folder, wait=False):
        assert run(tmp_path, *TINY, "method=centred_square") == 0
        assert "another process is working on this run" in capsys.readouterr().err
        assert not (folder / "record.json").exists()
        record = dict.fromkeys(runs.NEEDED) | {"status": "running", "seeds": [0], "images": {"num": 2}}
        runs.begin(folder, {"schema": runs.SCHEMA, **record}, "", again=False)
        assert runs.status(folder) == "running"
    assert runs.status(folder) == "killed"


def test_chunks_of_other_code_are_not_mixed(tmp_path, monkeypatch):
    base = [*TINY, "method=centred_square", "chunk=1"]
    assert run(tmp_path, *base) == 0
    (one,) = finished_runs(tmp_path)
    record = one.record | {"status": "running"}
    first, second = sorted(one.folder.glob("chunks/*"))
    second.unlink()
    runs.write_record(one.folder, record)
    kept = first.stat().st_mtime_ns
    assert run(tmp_path, *base) == 0 and first.stat().st_mtime_ns == kept
    second.unlink()
    runs.write_record(one.folder, record | {"code": record["code"] | {"modules": {"evomask.verify": "other"}}})
    assert run(tmp_path, *base) == 0 and first.stat().st_mtime_ns > kept


def test_what_another_experiment_has_is_not_computed_again(tmp_path, monkeypatch):
    base = [*TINY, "method=random_pixels", "chunk=1"]
    assert run(tmp_path, *base) == 0
    (one,) = finished_runs(tmp_path)
    monkeypatch.setattr(protocol, "measure", None)  # no further explanation can be made
    assert run(tmp_path, *base, "+experiment=planted", "data=samples", "fill=black") == 0
    (other,) = finished_runs(tmp_path, "planted")
    assert other.folder.name == one.folder.name and other.record["experiment"] == "planted"
    assert (other.folder / "rows.parquet").read_bytes() == (one.folder / "rows.parquet").read_bytes()
    assert other.record["run_seconds"] == one.record["run_seconds"] and len(other.record["sittings"]) == 2
    runs.write_record(one.folder, one.record | {"device": "another"})
    record = runs.read_record(other.folder)
    assert runs._adopt(tmp_path / "third" / other.folder.name, record | {"versions": {}}) is None


def test_interruption_is_recorded_and_resumed(tmp_path, monkeypatch, capsys):
    base = [*TINY, "method=random_pixels", "chunk=1"]
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    assert run(whole, *base) == 0
    measure, calls = protocol.measure, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(protocol, "measure", interrupted)
    assert run(halved, *base) == 130
    (folder,) = runs.find(halved, "benchmark")
    assert runs.status(folder) == "interrupted" and runs.done(folder) == (1, 2)
    assert len(runs.arrays(folder, "mask")["mask"]) == 1
    assert run(halved, *base) == 0 and len(calls) == 3
    assert len(runs.read_record(folder)["sittings"]) == 2
    for name in ("rows.parquet", "cuts.parquet"):
        assert (folder / name).read_bytes() == (whole / "benchmark" / folder.name / name).read_bytes()


def test_a_killed_sweep_that_two_processes_finish_gives_the_same_bytes(tmp_path):
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    assert run(quiet, "-m", *kill_sweep.SWEEP) == 0
    expected = kill_sweep.tables(quiet)
    assert len(expected) == 2 * kill_sweep.RUNS
    found = kill_sweep.kill_and_resume(killed, kills=1, seed=4)
    assert found.get("killed", 0) == 1 and kill_sweep.tables(killed) == expected


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_the_same_sweep(launcher, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{cli.CONF.parent}{os.pathsep}{Path(__file__).parent}")
    methods = ["centred_square", "random_pixels"] if launcher == "joblib" else ["centred_square"]
    sweep = ["-m", *TINY, f"method={','.join(methods)}", "budget=40"]
    assert run(tmp_path / "here", *sweep) == 0
    assert run(tmp_path / "there", *sweep, f"launcher={launcher}") == 0
    here, there = (finished_runs(tmp_path / name) for name in ("here", "there"))
    assert [one.folder.name for one in there] == [one.folder.name for one in here] and len(there) == len(methods)
    for ours, theirs in zip(here, there):
        assert (theirs.record["status"], theirs.record["choices"]) == ("finished", ours.record["choices"])
        results = [one.rows.drop(columns=[name for name in one.rows if "seconds" in name]) for one in (ours, theirs)]
        assert results[0].equals(results[1])


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "slurm"])
def test_launchers_share_the_machine(launcher):
    given = ["hydra.launcher.cpus_per_task=3"] if launcher == "slurm" else ["hydra.job.env_set.NPROC=3"]
    config = composed(f"launcher={launcher}", *given, return_hydra_config=True)
    environment = OmegaConf.to_container(OmegaConf.masked_copy(config, "hydra").hydra.job.env_set, resolve=True)
    assert environment["NPROC"] == "3" and "Launcher" in config.hydra.launcher["_target_"]


def test_help_names_every_choice():
    config = OmegaConf.load(cli.CONF / "benchmark.yaml")
    words = config.hydra.help.template.replace(",", " ").replace("(", " ").replace(")", " ").replace(";", " ").split()
    for group in ("method", "data", "stages", "launcher"):
        for path in (cli.CONF / group).glob("*.yaml"):
            assert path.stem in words, (group, path.stem)
