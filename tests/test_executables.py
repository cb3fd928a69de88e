"""Programs that are kept are found by the next process, whatever it is, and only where they are the same."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from small_networks import tiny_cnn

import evomask
from evomask import executables, fills, questions
from evomask.described import Indescribable, described
from evomask.search import program
from evomask.settings import own
from evomask.types import record, static

SIDE = 12
IMAGE = np.linspace(0, 1, SIDE * SIDE * 3, dtype=np.float32).reshape(1, SIDE, SIDE, 3)


def logits(classifier):
    with own():
        return np.asarray(questions._logits(classifier, IMAGE[0]))


def files(folder, kind):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(f"*.{kind}")}


@pytest.fixture
def traced(monkeypatch):
    """The names of the programs that are traced from here on."""
    names = []
    lower = executables.Program.lower
    told = lambda program, *args: names.append(program.name.rpartition(".")[2]) or lower(program, *args)
    monkeypatch.setattr(executables.Program, "lower", told)
    return names


def another_process(folder):
    """A store that has loaded nothing, which is what a process begins with."""
    executables._store_of.cache_clear()
    return executables.kept(folder)


def test_a_search_is_found_again_and_finds_the_same(tmp_path, traced):
    config = evomask.presets.smallest(144)
    search = lambda: evomask.explain(tiny_cnn(), IMAGE, key=0, config=config)
    plain = search()
    assert traced == [] and files(tmp_path, "executable") == {}
    with another_process(tmp_path):
        first = search()
    programs = {name.partition("-")[0] for name in files(tmp_path, "executable")}
    assert {*traced} == programs == {"_logits", "ask", "begin", "advance", "end"}
    traced.clear()
    with another_process(tmp_path):
        assert evomask.precompile(tiny_cnn(), IMAGE, config=config) > 0
        again = search()
    assert traced == []
    for found in (first, again):
        np.testing.assert_array_equal(found.mask, plain.mask)
        np.testing.assert_array_equal(found.score, plain.score)


def test_other_weights_are_the_same_program_and_other_settings_and_sources_are_not(tmp_path, traced, monkeypatch):
    expected = [logits(tiny_cnn(seed)) for seed in (0, 5)]
    with another_process(tmp_path):
        np.testing.assert_array_equal(logits(tiny_cnn(0)), expected[0])
        np.testing.assert_array_equal(logits(tiny_cnn(5)), expected[1])
        assert traced == ["_logits"]
        logits(dataclasses.replace(tiny_cnn(), labels=("a", "b", "d")))  # static, though it changes no bit
        assert len(traced) == 2
        with jax.default_matmul_precision("highest"):
            logits(tiny_cnn())
        assert len(traced) == 3
    monkeypatch.setattr(executables, "_source", lambda: "edited")
    before = files(tmp_path, "executable")
    with another_process(tmp_path):
        np.testing.assert_array_equal(logits(tiny_cnn()), expected[0])
    # What was edited is traced, and found by its text: nothing is compiled.
    assert len(traced) == 4 and {*files(tmp_path, "executable")} == {*before}


def test_what_was_edited_since_it_was_imported_is_not_kept(tmp_path, traced, monkeypatch):
    with another_process(tmp_path):
        logits(tiny_cnn())
    executables._source.cache_clear()
    monkeypatch.setattr(executables, "IMPORTED", 0.0)
    with another_process(tmp_path):
        logits(tiny_cnn())
    assert {*executables._store_of(tmp_path).known.values()} == {None} and traced == ["_logits"]


def test_a_process_reads_a_program_once(tmp_path, traced):
    executables._store_of.cache_clear()
    for _ in range(2):
        with executables.kept(tmp_path):
            logits(tiny_cnn())
        for path in tmp_path.iterdir():
            path.unlink()
    assert traced == ["_logits"]


def test_files_that_cannot_be_read_are_made_anew_and_it_is_said_why(tmp_path, traced, caplog):
    for damage in ("program", "executable"):
        with another_process(tmp_path):
            expected = logits(tiny_cnn())
        for path in tmp_path.glob(f"*.{damage}"):
            path.write_bytes(path.read_bytes()[:100])
        traced.clear()
        with another_process(tmp_path):
            np.testing.assert_array_equal(logits(tiny_cnn()), expected)
        assert traced == ["_logits"]
        [said] = [entry.getMessage() for entry in caplog.records]
        assert "made anew: " in said and "rror" in said
        caplog.clear()
        with another_process(tmp_path):
            logits(tiny_cnn())
        assert traced == ["_logits"]
    assert not [*tmp_path.glob(".new-*")]


def test_a_folder_that_cannot_be_made_does_no_harm(tmp_path):
    (tmp_path / "file").touch()
    expected = logits(tiny_cnn())
    with another_process(tmp_path / "file" / "programs"):
        np.testing.assert_array_equal(logits(tiny_cnn()), expected)


def test_what_was_not_used_for_longest_is_forgotten_first(tmp_path, monkeypatch):
    for name, age in (("old", 300), ("used", 200), ("new", 100)):
        path = tmp_path / f"{name}.executable"
        path.write_bytes(bytes(1000))
        executables.os.utime(path, (age, 1e9 - age))
    monkeypatch.setattr(executables, "MOST", 2500)
    executables._forget(tmp_path)
    assert {*files(tmp_path, "executable")} == {"used.executable", "new.executable"}


def test_what_is_the_user_s_is_jax_s_business(tmp_path, traced):
    mine = evomask.as_classifier(lambda images: images.mean((1, 2)), image_shape=(SIDE, SIDE, 3))
    box = evomask.BlackBox(lambda images: 9 * images.mean((1, 2)), num_classes=3, image_shape=(SIDE, SIDE, 3))
    mesh = jax.sharding.Mesh(jax.devices()[:2], "images")
    split = jax.device_put(IMAGE[0], jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("images")))
    with another_process(tmp_path):
        for classifier in (mine, box):
            logits(classifier)
        with own():
            questions._logits(tiny_cnn(), split)
        assert _one_more(np.float32(1.0)) == 2.0
    assert traced == [] and files(tmp_path, "program") == {}


@executables.keepable()
def _one_more(x=np.float32(1.0)):
    return x + 1


@record
class Mine:
    half: float = static(default=0.5)


def test_only_what_words_describe_for_certain_is_described():
    said = lambda tree: described(jax.tree.structure(tree))
    for unknown in (
        Mine(),
        {"a": Mine()},
        jax.tree_util.Partial(lambda x: x),
        jax.tree_util.Partial(fills.apply, axis=Mine()),
    ):
        with pytest.raises(Indescribable):
            said(unknown)
    for unknown in (object(), np.zeros(2), np.float32(0.5), lambda: 0, functools.partial(max, object()), Mine):
        with pytest.raises(Indescribable):
            described(unknown)
    trees = [
        (1.0, None),
        [1.0, None],
        (1.0, (None,)),
        {"a": 1.0},
        {"b": 1.0},
        fills.Constant(0.5),
        fills.Mean(),
        evomask.presets.smallest().compiled,
        evomask.presets.evomask().compiled,
    ]
    assert len({*map(said, trees)}) == len(trees) and said(fills.Constant(0.1)) == said(fills.Constant(0.7))
    statics = [
        True,
        1,
        1.0,
        "1",
        b"1",
        None,
        (1,),
        ((1,),),
        np.dtype("float32"),
        fills.apply,
        fills.Mean,
        evomask.Status.COMPLETE,
    ]
    assert len({*map(described, statics)}) == len(statics)
    assert described(functools.partial(fills.apply, axis=1)) != described(functools.partial(fills.apply, axis=0))


def test_every_program_of_a_search_may_be_kept():
    assert all(isinstance(each, executables.Program) and each.ours for each in program.PROGRAMS)
