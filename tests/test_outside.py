"""Baselines that need something from outside: heat maps from a file, and ReX in an environment of its own.

The conversation with the other process is tested with a search of this file's own. The tests with ReX itself need its
environment, whose interpreter is given as EVOMASK_REX (see conf/method/rex.yaml), and are skipped without.
"""

import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import oracles
import pytest
from test_benchmark import TINY, finished_runs, hashes, run, tiny

from evomask import fills
from evomask.baselines import RISE, HeatMaps, ReX, rex, rex_worker
from evomask.measures.budget import Account, BudgetExceeded, Counted, Spent, UnequalBudgets
from evomask.types import InputError
from experiments.benchmarks import runs

SIDE = 16
BOX = (2, 8, 4, 4)
INSIDE = oracles.box_mask(BOX, SIDE, SIDE)
ORACLE = oracles.BoxOracle(boxes=(BOX,), sharpness=8.0)
LIT = oracles.lit(BOX, SIDE, SIDE, background=0.2)
KEY = jax.random.key(0)

# ------------------------------------------------------------------------------------------------ heat maps from a file

PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
FILE = {
    "images": PIXELS[[0, 0, 2]], "labels": np.array([0, 1, 1]), "score": oracles.heat_maps(3, SIDE),
    "evaluations": np.array([20, 10, 15]), "backward": np.array([0, 5, 5]), "budget": 20,
}  # fmt: skip


def write(path, **changes):
    np.savez_compressed(path, **{name: value for name, value in (FILE | changes).items() if value is not None})
    return HeatMaps(str(path))


def explain(method, rows=(0,), labels=(0,), budget=20):
    counted = Counted(ORACLE, budget)
    images = PIXELS[list(rows)].astype(np.float32) / np.float32(255)
    return np.asarray(method(counted, images, np.array(labels), key=KEY, budget=budget)), counted.spent


def test_a_heat_map_is_found_by_pixels_and_label_and_charged_as_declared(tmp_path):
    method = write(tmp_path / "maps.npz")
    scores, spent = explain(method, rows=[2, 0, 0], labels=[1, 1, 0])
    np.testing.assert_array_equal(scores, FILE["score"][[2, 1, 0]])
    assert scores.dtype == np.float32 and spent == [Spent(15, 5), Spent(10, 5), Spent(20, 0)]
    assert explain(write(tmp_path / "forward.npz", backward=None), [2], [1])[1] == [Spent(15, 0)]
    changed = write(tmp_path / "maps.npz", score=2 * FILE["score"])
    os.utime(tmp_path / "maps.npz", ns=(1, 1))  # a clock too coarse to tell the two files apart
    np.testing.assert_array_equal(explain(changed)[0], 2 * FILE["score"][:1])


def test_heat_maps_keep_to_the_budget_that_they_declare(tmp_path):
    with pytest.raises(UnequalBudgets, match="were made under a budget of 20, not of 30"):
        explain(write(tmp_path / "maps.npz"), budget=30)
    with pytest.raises(BudgetExceeded, match=r"HeatMaps needs 21 evaluations per image \(16 forward, 5 backward\)"):
        explain(write(tmp_path / "over.npz", evaluations=np.array([20, 10, 16])))


def test_an_image_or_a_class_that_is_not_in_the_file_is_named(tmp_path):
    method = write(tmp_path / "maps.npz")
    for row, label in ((1, 0), (2, 0)):
        with pytest.raises(InputError, match=f"has no heat map of the image for class {label}, but 3 others"):
            explain(method, [row], [label])
    with pytest.raises(InputError, match="no heat maps at .*nowhere.npz"):
        explain(HeatMaps(str(tmp_path / "nowhere.npz")))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"budget": None, "score": None}, "has no score, no budget, only images, labels, evaluations, backward"),
        ({"images": PIXELS / 255}, r"images in .* are float64\[3, 16, 16, 3\]: must be uint8"),
        ({"images": PIXELS[:0]}, r"images in .* are uint8\[0, 16, 16, 3\]"),
        (
            {"score": FILE["score"][:, 1:]},
            r"score in .* is float32\[3, 15, 16\]: must be floats of shape \[3, 16, 16\]",
        ),
        ({"score": FILE["score"] > 0}, r"score in .* is bool\[3, 16, 16\]: must be floats"),
        ({"labels": np.array([0, 1])}, r"labels in .* is int64\[2\]: must be integers from 0 of shape \[3\]"),
        ({"evaluations": 20}, r"evaluations in .* is int64\[\]: must be integers from 0 of shape \[3\]"),
        ({"backward": np.array([0, -1, 0])}, r"backward in .*: must be integers from 0"),
        ({"budget": 20.0}, r"budget in .* is float64\[\]: must be integers"),
        ({"labels": np.array([1, 1, 1])}, "has two heat maps of one image for one class"),
        ({"names": np.array([{}])}, "is not an .npz file of numbers"),  # needs pickle
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(changes, problem, tmp_path):
    with pytest.raises(InputError, match=problem):
        explain(write(tmp_path / "maps.npz", **changes))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("score")
    np.save(tmp_path / "array.npy", FILE["score"])
    for name in ("text.npz", "array.npy"):
        with pytest.raises(InputError, match="is not an .npz file of numbers"):
            explain(HeatMaps(str(tmp_path / name)))


def test_the_benchmark_treats_heat_maps_like_the_method_that_made_them(tmp_path):
    assert run(tmp_path, *TINY, "method=rise", "budget=40") == 0
    (ours,) = finished_runs(tmp_path)
    found = runs.images(ours.folder)
    images = found["images"].astype(np.float32) / np.float32(255)
    score = np.asarray(RISE()(tiny(), images, found["labels"], key=KEY, budget=40))
    made = {"images": found["images"], "labels": found["labels"], "evaluations": np.array([40, 40]), "budget": 40}
    np.savez(tmp_path / "maps.npz", **made, score=score)
    np.savez(tmp_path / "other.npz", **made, score=-score)
    (tmp_path / "copy.npz").write_bytes((tmp_path / "maps.npz").read_bytes())
    job = lambda name: [*TINY, "method=heatmaps", f"method.path={tmp_path / name}.npz", "budget=40"]
    assert run(tmp_path, *job("maps")) == 0
    (theirs,) = [one for one in finished_runs(tmp_path) if one.record["method"] == "heatmaps"]
    assert theirs.rows.drop(columns="method").equals(ours.rows.drop(columns="method")) and theirs.cuts.equals(ours.cuts)
    # What is in a file decides which run it is, not where it lies.
    name = theirs.folder.name
    assert hashes(tmp_path, *job("copy")) == [name] and hashes(tmp_path, *job("other")) != [name]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=heatmaps"], "method.path=??? cannot be read (No such file or directory): give the .npz file"),
        (["method=heatmaps", "method.path=nowhere.npz"], "method.path=nowhere.npz cannot be read"),
        (
            ["method=rex", "method.python=null"],
            "ReX needs an environment of its own, for it pins NumPy 1.26: python3.11 -m venv",
        ),
        (
            ["method=rex", "method.python=nowhere/python"],
            "python='nowhere/python' cannot be started (No such file or directory)",
        ),
        (
            ["method=rex", f"method.python={sys.executable}"],
            "cannot run ReX (ModuleNotFoundError: No module named 'rex_xai')",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(overrides, message, tmp_path, capsys):
    assert run(tmp_path, *TINY, *overrides) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in error


# ----------------------------------------------------------------------------------------- the conversation with a
# worker

SEARCH = """
import sys
sys.path.append({folder!r})
import numpy as np
from rex_worker import send, serve

def explain(predict, shape, label, confidence, **settings):
    if label == 2:
        sys.exit("no such class")
    if label == 0:
        return np.array([*shape, *map(settings.get, ["budget", "iterations", "tree_depth", "min_box_size", "seed"])])
    score = np.zeros(shape, np.float32)
    for rows in (slice(None, 8), slice(8, None)):
        masks = np.zeros((2, *shape), bool)
        masks[0, rows, :8] = masks[1, rows, 8:] = True
        for mask, probability in zip(masks, predict(masks)[:, label]):
            score[mask] = probability / confidence
    return score

send(sys.stdout.buffer, rex="0")
serve(explain, sys.stdin.buffer, sys.stdout.buffer)
"""


@pytest.fixture
def search(tmp_path, monkeypatch):
    """ReX whose worker shows each quarter of the image by itself, in this interpreter."""
    (tmp_path / "search.py").write_text(SEARCH.format(folder=os.path.dirname(rex_worker.__file__)))
    monkeypatch.setattr(rex_worker, "__file__", str(tmp_path / "search.py"))
    rex._started.cache_clear()
    yield ReX(sys.executable)
    rex._started.cache_clear()


@pytest.mark.parametrize("rest", [0.0, 1.0])
def test_masks_are_filled_counted_and_answered_here(search, rest):
    sigmoid = lambda brightness: 1 / (1 + np.exp(-8.0 * (brightness - 0.5)))
    expected = np.full((1, SIDE, SIDE), sigmoid(rest) / sigmoid(1.0))
    expected[:, :8, 8:] = 1.0  # the quarter with the box in it
    counted = Counted(ORACLE, 20)
    score = ReX(search.python, fill=fills.Constant(rest))(counted, LIT[None], [1], key=KEY, budget=20)
    np.testing.assert_allclose(score, expected, rtol=1e-5)
    assert counted.spent == [Spent(5)]


def test_the_settings_arrive(search):
    asked = lambda method, key: method.explain(Account(ORACLE, 10), LIT[:, :12], 0, jax.random.key(key), 10).tolist()
    *plain, seed = asked(search, 0)
    assert plain == [
        SIDE,
        12,
        9,
        0,
        10,
        10,
    ]  # shape, budget left after the whole image, iterations, tree_depth, min_box_size
    *other, another = asked(ReX(search.python, iterations=3, tree_depth=4, min_box_size=5), 1)
    assert other == [SIDE, 12, 9, 3, 4, 5] and 0 <= seed != another >= 0


def test_a_budget_is_enforced_here_whatever_the_worker_asks_for(search):
    account = Account(ORACLE, 4)
    with pytest.raises(BudgetExceeded, match="needs 5 evaluations per image .*budget of 4"):
        search.explain(account, LIT, 1, KEY, 10)
    assert account.spent == Spent(3)
    with pytest.raises(BudgetExceeded, match="ReX needs 15 evaluations per image"):
        search(ORACLE, LIT[None], [1], key=KEY, budget=14)
    # That conversation was cut short: the next one is with another process.
    assert search.explain(Account(ORACLE, 10), LIT, 1, KEY, 10).max() == pytest.approx(1.0)


def test_a_worker_serves_many_images_and_is_replaced_when_it_has_died(search):
    search.explain(Account(ORACLE, 10), LIT, 1, KEY, 10)
    first = rex.start(search.python)
    assert first is rex.start(search.python) and first.version == "0"
    with pytest.raises(RuntimeError, match="ReX has stopped: no such class"):
        first.ask(None, shape=(SIDE, SIDE), label=2, confidence=1.0, seed=0, budget=9)
    second = rex.start(search.python)
    assert second is not first and first._process.poll() == 1
    second._process.kill()
    with pytest.raises(RuntimeError, match="ReX has stopped: exit code -9"):
        second.ask(None, shape=(SIDE, SIDE), label=0)


def test_nan_is_said_and_not_ranked(search):
    with pytest.raises(ValueError, match="classifier returned NaN"):
        search(oracles.nan(), LIT[None], [1], key=KEY, budget=20)


# ---------------------------------------------------------------------------------------------------------- ReX itself

PYTHON = os.environ.get("EVOMASK_REX")
needs_rex = pytest.mark.skipif(PYTHON is None, reason="EVOMASK_REX gives no interpreter with rex-xai")


def responsibility(image=LIT, label=1, budget=300, classifier=ORACLE, **settings):
    counted = Counted(classifier, budget)
    score = np.asarray(ReX(PYTHON, **settings)(counted, image[None], [label], key=KEY, budget=budget)[0])
    return score, counted.spent[0]


@needs_rex
def test_rex_finds_the_box_within_the_budget():
    score, spent = responsibility()
    assert score.shape == (SIDE, SIDE) and score.dtype == np.float32
    assert score.min() >= 0 and score.max() == 1.0 and INSIDE[np.unravel_index(score.argmax(), score.shape)]
    assert score[INSIDE].mean() > score[~INSIDE].mean() + 2 * score[~INSIDE].std()
    assert spent == Spent(1 + 14 * (299 // 14))
    np.testing.assert_array_equal(responsibility()[0], score)


@needs_rex
def test_rex_equals_its_own_command_where_the_budget_does_not_end_it():
    own = """
        import sys, numpy as np, torch
        sys.path.append(sys.argv[1])
        import rex_worker
        from rex_xai.explanation.rex import calculate_responsibility
        from rex_xai.input.config import CausalArgs
        from rex_xai.input.input_data import Data
        from rex_xai.responsibility.prediction import Prediction
        def predict(masks):  # a pixel's weight grows with its row
            share = (masks * np.arange(12)[:, None]).sum((1, 2)) / (66 * 16)
            return np.stack([1 - share, share], 1)
        args = CausalArgs()
        args.seed, args.iters, args.batch_size, args.progress_bar = 5, 3, 14, False
        data = Data(None, [1, 1, 12, 16], mode="RGB")
        data.data, data.target = torch.ones(1, 1, 12, 16), Prediction(1, 1.0)
        data.set_mask_value(0)
        asked = lambda x, target: [Prediction(int(p.argmax()), p.max()) for p in predict(x[:, 0].numpy())]
        expected = calculate_responsibility(data, args, asked)[0].get(1)
        found = rex_worker.responsibility(predict, shape=np.array([12, 16]), label=1, confidence=1.0, seed=5,
        budget=10**6,
                                          iterations=3, tree_depth=10, min_box_size=10)
        assert expected.std() > 0.05 and (found == expected).all(), (found, expected)
    """
    subprocess.run([PYTHON, "-c", textwrap.dedent(own), os.path.dirname(rex_worker.__file__)], check=True)


@needs_rex
def test_rex_settings_decide():
    plain, spent = responsibility()
    other, less = responsibility(iterations=1)
    assert less.forward < spent.forward and np.abs(other - plain).max() > 0
    for settings in ({"tree_depth": 1}, {"min_box_size": 100}):
        coarse, _ = responsibility(iterations=1, **settings)
        assert len(np.unique(coarse)) < len(np.unique(other))


@needs_rex
def test_rex_of_a_class_that_no_mask_has_is_zero():
    score, spent = responsibility(label=0, classifier=oracles.constant())
    np.testing.assert_array_equal(score, np.zeros((SIDE, SIDE)))
    assert spent.forward <= 300


@needs_rex
def test_rex_takes_grey_and_oblong_images():
    image = np.zeros((8, 24, 1), np.float32)
    image[:4, :6] = 1.0
    score, _ = responsibility(image, classifier=oracles.BoxOracle(boxes=((0, 0, 4, 6),), sharpness=8.0))
    assert score.shape == (8, 24) and score[:4, :6].mean() > 2 * score[4:].mean()


@needs_rex
def test_rex_takes_its_place_among_the_methods(tmp_path):
    assert run(tmp_path, *TINY, "method=rex", f"method.python={PYTHON}", "budget=60", "seeds=[0,1]") == 0
    (one,) = finished_runs(tmp_path)
    assert (one.rows["evaluations"] == 57).all() and (one.rows["method"] == "rex").all() and len(one.rows) == 4
    assert [sitting["outside"] for sitting in one.record["sittings"]] == [{"rex_xai": rex.start(PYTHON).version}]
    elsewhere = hashes(tmp_path, *TINY, "method=rex", "method.python=elsewhere", "budget=60", "seeds=[0,1]")
    assert elsewhere == [one.folder.name]
