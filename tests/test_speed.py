"""The benchmark of `explain` against forward passes alone, at a tiny size: it runs, and counts the same images."""

import numpy as np

import evomask
from evomask import presets
from experiments import speed


def test_forward_passes_are_those_of_the_search():
    seen = []
    settings = presets.evomask(96)

    def count(images):
        seen.append(images.shape[0])
        return images.mean((1, 2))[:, :2]

    forward = speed.compile_forward(evomask.as_classifier(count), np.ones((1, 8, 8, 3), np.float32), settings)
    forward()
    assert set(seen) == {24}
    assert sum((stage.generations + 1) * settings.generation_cost(stage) for stage in settings.stages) == 96


def test_table_gives_the_ratio_of_pairs():
    table = speed.table(np.array([[1.0, 1.1], [2.0, 2.1], [1.0, 1.3]]), 100, (3.0, 4.0))
    assert table.caption == "explain / forward: median 1.100, from 1.050 to 1.300"
    assert list(table.columns[2].cells) == ["1.00", "1.30"]


def test_bad_pairs_are_refused(capsys):
    assert speed.main(["pairs=0"]) == 2
    assert capsys.readouterr().err == "error: pairs is 0: give a whole number of 1 or more\n"
