"""Tables, figures, the report page and the overview, from run folders that are written here without any search."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from evomask.measures import statistics
from evomask.types import InputError
from experiments import figures, load_run, report, status, tables
from experiments.benchmarks import measured, runs, sweeps, trust
from experiments.results import cells, columns, drawing, rendering, summaries
from experiments.results.kinds import bars, convergence, front, grid
from experiments.results.kinds import budget as budgets
from experiments.shared import cli

SIDE, NUM = 8, 5
CLASSES = np.array(["cat", "dog", "</script><b>bird"])
METHODS = ("evomask", "dissertation", "gradcam", "lime", "shap")  # of the experiment dissertation_cifar10
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def images(num=NUM, salt=0):
    rng = np.random.default_rng(salt)
    pixels = rng.integers(0, 256, (num, SIDE, SIDE, 3), np.uint8)
    return {"images": pixels, "labels": np.arange(num, dtype=np.int32) % 3,
            "names": np.array([f"picture_{i}" for i in range(num)]), "classes": CLASSES}  # fmt: skip


def chunk(known, start, stop, seed, method, areas, spent, history):
    """Rows, cuts and arrays for images start .. stop - 1. NaN in `areas`: a mask of a quarter that is not complete."""
    count, rng = stop - start, np.random.default_rng([seed, start, len(method)])
    area = np.array(areas[start:stop], np.float32)
    complete, kept = np.isfinite(area), np.where(np.isfinite(area), area, np.float32(0.25))
    labels, same = known["labels"][start:stop], lambda value: np.full(count, value)
    mask = np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE) < (kept * SIDE * SIDE).round()[:, None, None]
    with np.errstate(divide="ignore"):
        cp = np.where(kept > 0, 0.5 / kept, np.inf).astype(np.float32)
    values = {
        "image": known["names"][start:stop], "index": np.arange(start, stop),
        "seed": same(seed), "method": same(method),
        "label": labels, "label_name": CLASSES[labels], "predicted": labels, "predicted_name": CLASSES[labels],
        "confidence": same(0.9), "blank_confidence": same(0.1), "blank_label": same(0),
        "rule": same("own"), "area": kept,
        "masked_confidence": same(0.5), "masked_label": np.where(complete, labels, 0),
        "inverse_confidence": same(0.2), "inverse_label": same(1), "cp": cp, "cp_floored": 0.5 / np.maximum(kept, 0.05),
        "sufficient": complete, "necessary": same(True), "complete": complete, "complete_area": area,
        "status": np.where(complete, "complete", "not_sufficient"), "reason": same("found"), "cut_evaluations": same(0),
        "iou": same(np.nan), "precision": same(np.nan), "recall": same(np.nan),
        "evaluations": same(spent), "forward": same(spent), "backward": same(0),
        "insertion_auc": rng.random(count), "deletion_auc": same(0.25), "mu_fidelity": same(0.1),
        "sensitivity_n": same(0.2), "infidelity": same(0.01), "road": same(0.05), "calibration": same(0.3),
        "shuffled": same(np.nan), "distinct": same(0.5), "gini": same(0.5),
        "pointing_game": same(np.nan), "energy": same(np.nan),
        **dict.fromkeys(trust.COLUMNS, same(np.nan)),
    }  # fmt: skip
    arrays = {
        "score": rng.random((count, SIDE, SIDE)).astype(np.float16), "mask": mask, "offered": mask,
        "prefix_area": np.broadcast_to(np.linspace(0.1, 1, 10, dtype=np.float32), (count, 10)),
        "prefix_confidence": rng.random((count, 10)).astype(np.float32),
    }  # fmt: skip
    if history:
        arrays |= {"history_evaluations": np.broadcast_to(np.arange(10, 50, 10, dtype=np.int32), (count, 4)),
                   "history_area": rng.random((count, 4)).astype(np.float32),
                   "history_confidence": rng.random((count, 4)).astype(np.float32),
                   "history_feasible": np.ones((count, 4), bool)}  # fmt: skip
    return runs.Chunk({name: values[name] for name in runs.ROWS}, {name: values[name] for name in runs.CUTS}, arrays)


def make(
    out,
    experiment="dissertation_cifar10",
    *,
    method="evomask",
    areas=(0.25,) * NUM,
    budget=100,
    spent=50,
    seeds=(0,),
    code="a",
    num=NUM,
    salt=0,
    state="finished",
    error=None,
    done=None,
    choices=(),
    own=(),
    asked="2026",
    name=None,
    **overrides,
):
    """A run folder, written by the functions that write real ones."""
    known, folder = images(num, salt), out / experiment
    overrides = {"method": method, "budget": str(budget)} | {
        key.replace("__", "."): str(value) for key, value in overrides.items()
    }
    ours = method in ("evomask", "dissertation")
    config = {
        "method": {"_target_": "evomask.explain" if ours else "evomask.baselines.Other"},
        "cut_steps": 8,
        "auc_steps": 8,
        "fidelity_subsets": 8,
        "cut_areas": [0.1],
        "budget": budget,
        "seeds": list(seeds),
        # fmt: skip
        "preset": {"fill": {"_target_": "evomask.fills.Constant", "value": 0.0}, "confidence_ratio": 0.9},
    }
    file = runs.write_images(runs.records.prepare_folder(folder), known)
    record = {
        "schema": runs.SCHEMA, "status": "running", "error": None,
        "experiment": experiment, "method": method, "overrides": overrides,
        "hash": name or runs.digest([overrides, code, salt, dict(own)]),
        "budget": budget, "seeds": list(seeds), "weights": "w", "device": "cpu",
        "choices": {"method": method, "data": "samples", "model": "cifar10", "fill": "black", **dict(choices)},
        "images": {"file": file, "num": num, "left_out": 0}, "versions": {"python": "3.11", "jax": "0.10"},
        "code": {"commit": code * 40, "dirty": False, "modules": {"evomask.verify": code}, "own": dict(own)},
        "asked": asked,
    }  # fmt: skip
    run = folder / record["hash"]
    with runs.locked(run, wait=False):
        record = runs.begin(run, record, OmegaConf.to_yaml(OmegaConf.create(config)), again=False)
        for seed in seeds:
            for start in range(0, num if done is None else done, 2):
                stop = min(start + 2, num)
                made = chunk(
                    known, start, stop, seed, method, areas[seed] if isinstance(areas, dict) else areas, spent, ours
                )
                if experiment.startswith("trust"):  # what is complete holds
                    held = {"decision": 1, "decision_holds": 1, "holds": made.rows["complete"], "pieces": 2 + seed}
                    held["certified_area"] = np.where(made.rows["complete"], made.rows["area"], 1)
                    ones = np.ones(stop - start, np.float32)
                    made.rows.update({name: ones * values for name, values in held.items()})
                runs.write_chunk(run, seed, start, stop, made, 2.0)
        if state == "finished":
            runs.merge(run)
        problem = {"type": "ValueError", "message": error, "traceback": ""} if error else None
        runs.write_record(run, record | {"status": state, "error": problem})
    return run


AREAS = {
    "evomask": (0.125, 0.25, 0.125, 0.25, 0.0),
    "dissertation": (np.nan, 0.5, np.nan, 0.5, 0.5),
    "gradcam": (0.5, 0.5, 0.75, 0.5, 0.25),
    "lime": (0.5, 0.25, 0.25, 0.5, 0.5),
    "shap": (1.0, 1.0, 1.0, 1.0, 1.0),
}


def sweep(out, **changed):
    """The five runs of dissertation_cifar10; `changed` is {method: other arguments, or None for none}."""
    for method in METHODS:
        if changed.get(method, {}) is not None:
            make(out, **{"method": method, "areas": AREAS[method]} | changed.get(method, {}))
    return out


def cell(frame, method, name):
    return frame.set_index("method").loc[method, name]


# ------------------------------------------------------------------------------------------------------------ tables


def test_the_numbers_of_a_table(tmp_path):
    found = cells.gather(sweep(tmp_path), "dissertation_cifar10")
    table = summaries.summary(found, columns.COLUMNS)
    numbers, text = table.numbers, table.text
    assert numbers["method"].tolist() == list(METHODS) and numbers["images"].tolist() == [NUM] * 5
    assert numbers["complete"].tolist() == pytest.approx([1.0, 0.6, 1.0, 1.0, 1.0])
    assert numbers["complete area"].tolist() == pytest.approx([0.15, 0.5, 0.5, 0.4, 1.0])
    assert numbers["failures as 1"].tolist() == pytest.approx([0.15, 0.7, 0.5, 0.4, 1.0])
    assert numbers["without blank"].tolist() == pytest.approx(
        [0.125, 2 / 3, 0.5, 1 / 3, 1.0]
    )  # images 0 and 3 have its class
    assert "without the images that have the class of the blank image, of which there are 2." in table.caption
    assert cell(numbers, "dissertation", "keeps class") == pytest.approx(
        0.8
    )  # 0 is predicted, which is the label of one of two
    assert np.isinf(cell(numbers, "evomask", "CP mean")) and cell(text, "evomask", "CP mean") == "∞"
    assert cell(numbers, "evomask", "CP median") == pytest.approx(4.0)
    assert cell(numbers, "shap", "deletion") == pytest.approx(0.25) and "IoU" not in text
    interval = statistics.bootstrap(AREAS["gradcam"], seed=0)
    assert (
        cell(numbers, "gradcam", "complete area low") == interval.low
        and cell(numbers, "gradcam", "complete area high") == interval.high
    )
    assert cell(text, "Grad-CAM", "complete area") == f"50.0 % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    rivals = {name: [1.0 if np.isnan(x) else x for x in AREAS[name]] for name in METHODS[1:]}
    for expected in statistics.compare(AREAS["evomask"], rivals, seed=0):
        assert cell(numbers, expected.rival, "p") == expected.p_holm
    assert cell(text, "evomask", "p") == "*"
    best = table.best.set_axis(METHODS)
    assert best["failures as 1"].tolist() == [True, False, False, False, False]
    assert (
        best["complete"].tolist() == [True, False, True, True, True]
        and not best["confidence"].any()
        and not best["method"].any()
        and not best["p"].any()
    )


def test_where_the_truth_is_known_iou_is_tested_too(tmp_path):
    found = cells.gather(sweep(tmp_path), "dissertation_cifar10")
    overlap = {method: np.linspace(0.9, 0.5, NUM) - 0.1 * number for number, method in enumerate(METHODS)}
    overlap["lime"][2] = np.nan  # no mask: counts as none of the object
    for one in found.cells:
        one.run.rows["iou"] = overlap[one.values["method"]]
    table = summaries.summary(found, columns.COLUMNS)
    rivals = {name: np.nan_to_num(overlap[name]) for name in METHODS[1:]}
    for expected in statistics.compare(overlap["evomask"], rivals, seed=0, smaller_is_better=False):
        assert cell(table.numbers, expected.rival, "p of IoU") == expected.p_holm and expected.wins == NUM
    assert (
        cell(table.text, "evomask", "p of IoU") == "*"
        and "p of IoU: Wilcoxon's signed-rank test of “IoU”" in table.caption
    )


def test_heat_maps_are_tested_by_insertion_less_deletion(tmp_path):
    found = cells.gather(sweep(tmp_path), "dissertation_cifar10")
    for number, one in enumerate(found.cells):
        one.run.rows["insertion_auc"] = np.linspace(0.6, 0.8, NUM)
        one.run.rows["deletion_auc"] = np.linspace(0.2, 0.1, NUM) + 0.01 * number * np.arange(NUM)
    found.cells[2].run.rows.loc[1, "insertion_auc"] = np.nan  # no score: counts as the worst of curves
    table = summaries.summary(found, columns.COLUMNS)
    gain = np.linspace(0.4, 0.7, NUM)
    rivals = {name: gain - 0.01 * number * np.arange(NUM) for number, name in enumerate(METHODS) if number}
    rivals[METHODS[2]][1] -= 0.65  # the insertion that is missing
    for expected in statistics.compare(gain, rivals, seed=0, smaller_is_better=False):
        assert cell(table.numbers, expected.rival, "p of insertion - deletion") == pytest.approx(expected.p_holm)
    assert "p of insertion - deletion: Wilcoxon's signed-rank test of “insertion - deletion”" in table.caption


def test_seeds_of_an_image_are_one_observation(tmp_path):
    areas = {0: (0.1, 0.1, 0.1, 0.1, 0.1), 7: (0.3, np.nan, 0.3, 0.3, 0.3)}
    run = runs.load(make(tmp_path, "mine", seeds=(0, 7), areas=areas))
    assert columns.per_image(run, "complete_area", 1.0) == pytest.approx([0.2, 0.55, 0.2, 0.2, 0.2])
    made = columns.quantities(run, columns.COLUMNS)
    assert made["images"] == NUM and made["complete"] == pytest.approx(0.9)
    assert made["complete area"].value == pytest.approx((4 * 0.2 + 0.1) / 5)
    assert made["failures as 1"] == statistics.bootstrap(columns.per_image(run, "complete_area", 1.0), seed=0)


def test_files_and_layout_of_the_dissertation(tmp_path, capsys):
    given = [f"runs={sweep(tmp_path / 'runs')}", f"out={tmp_path / 'a'}", "experiment=dissertation_cifar10", "images=3"]
    assert tables.main(given) == 0
    printed = capsys.readouterr().out
    names = {
        f"dissertation_cifar10{part}.{kind}"
        for part in ("", "_images", "_standings")
        for kind in ("md", "tex", "csv", "html")
    }
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    assert printed == (tmp_path / "a" / "dissertation_cifar10.md").read_text()
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert lines[0].startswith(
        "| method | images | keeps class | confidence | pixels | CP mean | CP median | complete |"
    )
    assert len(lines) == 7 and re.search(r"^\| Grad-CAM \| 5 \| \*\*100.0 %\*\* \| 0.500 \| 50.0 % \|", printed, re.M)
    latex = (tmp_path / "a" / "dissertation_cifar10_images.tex").read_text()
    assert "\\toprule" in latex and "picture\\_0 & whole image & cat & 0.900 & 100.0 \\% & 0.90" in latex
    assert "\\textless{}/script\\textgreater{}" in latex and "\\bfseries" in latex and latex.count("whole image") == 3
    single = pd.read_csv(tmp_path / "a" / "dissertation_cifar10_images.csv")
    assert single["image"].tolist() == ["picture_0"] * 6 + ["picture_1"] * 6 + ["picture_2"] * 6
    assert single.loc[1, ["method", "prediction", "confidence", "pixels", "CP"]].tolist() == [
        "evomask",
        "cat",
        0.5,
        0.125,
        4.0,
    ]
    page = (tmp_path / "a" / "dissertation_cifar10_images.html").read_text()
    assert "<b>bird" not in page and "<table" in page


def test_the_same_runs_give_the_same_bytes(tmp_path):
    def files(out):
        found = cells.gather(sweep(tmp_path / out), "dissertation_cifar10")
        table = summaries.summary(found, columns.DISSERTATION)
        texts = [render(table) for render in rendering.RENDERERS.values()]
        return [
            *texts,
            report.page(found, 2),
            *(figures.rendered(bars.draw(found, 1), form) for form in figures.FORMATS),
        ]

    assert files("a") == files("b")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lime": None}, "method=lime missing"),
        (
            {"lime": {"state": "failed", "error": "no such layer", "done": 2}},
            r"method=lime failed \(ValueError: no such layer\) in",
        ),
        (
            {"lime": {"state": "interrupted", "done": 2}},
            r"method=lime unfinished, interrupted \(2 of 5 explanations\) in",
        ),
        ({"lime": {"state": "running", "done": 4}}, r"method=lime unfinished, killed \(4 of 5 explanations\) in"),
        ({"lime": {"code": "b"}}, "method=lime has other code than the others .evomask.verify b, not a."),
        ({"lime": {"budget": 200}}, "method=lime has other budget than the others .200, not 100."),
        ({"lime": {"seeds": (1,)}}, "method=lime has other seeds than the others"),
        ({"lime": {"salt": 1}}, "method=lime has other images than the others"),
        ({"lime": {"spent": 101}}, "method=lime overspent .lime spent 101 evaluations on an image, its budget is 100."),
    ],
)
def test_cells_that_cannot_be_compared_are_refused_by_name_or_marked(changed, message, tmp_path):
    sweep(tmp_path, **changed)
    with pytest.raises(InputError, match=f"the cells of dissertation_cifar10 cannot be compared: {message}"):
        cells.gather(tmp_path, "dissertation_cifar10")
    found = cells.gather(tmp_path, "dissertation_cifar10", mark=True)
    table = summaries.summary(found, columns.DISSERTATION)
    assert [each.sound for each in found.cells] == [True, True, True, False, True]
    assert table.text["method"][3] == "LIME (1)" and len(table.notes) == 1 and re.search(message, table.notes[0])
    assert not table.best.iloc[3].any() and table.text["p"][3] == "–"
    if changed["lime"] is None or "state" in changed["lime"]:
        assert set(table.text.iloc[3][1:]) == {"–"}


def test_a_cell_that_is_there_twice_is_refused_and_can_be_chosen(tmp_path, capsys):
    sweep(tmp_path)
    make(tmp_path, method="lime", areas=AREAS["lime"], budget=200)
    given = [f"runs={tmp_path}", "experiment=dissertation_cifar10", f"out={tmp_path / 'made'}"]
    assert tables.main(given) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert (
        len(errors) == 1
        and "method=lime is there 2 times" in errors[0]
        and "budget=200" in errors[0]
        and "where=" in errors[0]
    )
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())
    assert tables.main([*given, "where=budget=100", "format=csv", "per_image=false"]) == 0
    assert len(pd.read_csv(tmp_path / "made" / "dissertation_cifar10.csv")) == 5
    assert tables.main([*given, "where=budget=200", "format=csv"]) == 2
    assert "method=evomask missing" in capsys.readouterr().err
    assert tables.main([*given, "where=method=evomask,shap", "format=csv", "per_image=false"]) == 0
    assert pd.read_csv(tmp_path / "made" / "dissertation_cifar10.csv")["method"].tolist() == ["evomask", "shap"]


def test_ablations_have_a_row_for_each_value_and_are_tested_against_the_default(tmp_path):
    radii = ("[0.03]", "[0.06]", "[0.12]", "[0.24]", "[0.03,0.06,0.12]", "[0.06,0.12,0.24]", "[0.13,0.16,0.18]")
    for value in reversed(radii):
        make(tmp_path, "radii", preset__stages__gross__radii=value)
    found = cells.gather(tmp_path, "radii")
    assert [each.title for each in found.cells] == list(radii)
    table = summaries.summary(found, columns.COLUMNS)
    assert table.text["p"].tolist() == ["1.000"] * 4 + ["*", "1.000", "1.000"] and list(table.text)[0] == "gross radii"


def test_budgets_are_compared_within_each(tmp_path):
    for budget in (250, 500):
        for method in ("evomask", "rise"):
            areas = np.full(NUM, 50 / budget + 0.1 * (method == "rise"))
            make(tmp_path, "budget", method=method, budget=budget, areas=areas)
    found = cells.gather(tmp_path, "budget", where="budget=250,500 method=evomask,rise")
    table = summaries.summary(found, columns.COLUMNS)
    assert table.numbers["budget"].tolist() == ["250", "250", "500", "500"]
    assert table.best["failures as 1"].tolist() == [True, False, True, False] and table.text["p"].tolist()[::2] == [
        "*",
        "*",
    ]
    figure = budgets.draw(found, 1)
    first, second = figure.axes[0].lines
    assert first.get_xdata().tolist() == [250, 500] and first.get_ydata() == pytest.approx([0.2, 0.1])
    assert second.get_ydata() == pytest.approx([0.3, 0.2]) and second.get_label() == "RISE"


def test_runs_without_an_experiment_differ_in_what_was_overridden(tmp_path):
    for method in ("rise", "evomask"):
        make(tmp_path, "benchmark", method=method)
    found = cells.gather(tmp_path, "benchmark")
    assert found.keys == ("method",) and [each.title for each in found.cells] == ["evomask", "RISE"]


@pytest.mark.parametrize("tool", [tables, figures, report, status])
def test_bad_input_is_one_line(tool, tmp_path, capsys):
    make(tmp_path, "benchmark")
    assert tool.main([f"runs={tmp_path}", "experiment=fitness"]) == 2
    assert "no runs of experiment 'fitness' in" in (error := capsys.readouterr().err) and "benchmark" in error
    if tool is not status:
        assert tool.main([f"runs={tmp_path}"]) == 2
        assert "experiment is not set: experiment=... takes benchmark" in capsys.readouterr().err
        assert tool.main([f"runs={tmp_path}", "experiment=benchmark", "where=budget", f"out={tmp_path}"]) == 2
        assert capsys.readouterr().err.startswith("error: cannot read budget: write key=value")
        assert tool.main([f"runs={tmp_path}", "experiment=benchmark", "images=0", f"out={tmp_path}"]) == 2
        assert "images is 0: give a whole number" in capsys.readouterr().err


def test_formats_are_checked(tmp_path, capsys):
    make(tmp_path, "benchmark")
    given = [f"runs={tmp_path}", "experiment=benchmark", f"out={tmp_path}"]
    assert tables.main([*given, "format=xls"]) == 2
    assert "format is 'xls': choose from md, tex, csv, html" in capsys.readouterr().err
    assert tables.main([*given, "columns=[area]"]) == 2
    assert "columns is 'area': choose from images, keeps_class, complete, complete_area" in capsys.readouterr().err
    assert tables.main([*given, "format=md", "columns=[p,complete_area,CP_median]"]) == 0
    assert "| run | complete area | CP median |" in capsys.readouterr().out
    assert figures.main([*given, "kind=budget"]) == 2
    assert "nothing for kind=budget" in capsys.readouterr().err


def test_reference_names_the_row_of_p_and_without_one_the_table_says_why(tmp_path, capsys):
    for value in ("rank", "truncation", "tournament"):  # the default was not run
        make(tmp_path, "benchmark", selection=value)
    found = cells.gather(tmp_path, "benchmark")
    table = summaries.summary(found, columns.COLUMNS)
    assert "p" not in table.text and "No p: no row has selection=" in table.caption
    assert "reference=... names another." in table.caption
    for asked in ("selection=rank", "rank"):
        table = summaries.summary(cells.gather(tmp_path, "benchmark", reference=asked), columns.COLUMNS)
        assert table.text.set_index("selection")["p"].to_dict() == {
            "rank": "*", "truncation": "1.000", "tournament": "1.000"}  # fmt: skip
    given = [f"runs={tmp_path}", "experiment=benchmark", f"out={tmp_path}/made", "format=md"]
    assert tables.main([*given, "reference=selection=rank", "columns=[complete,p]"]) == 0
    assert "| rank | 100.0 % | \\* |" in capsys.readouterr().out
    assert tables.main([*given, "reference=nothing"]) == 2
    assert "reference is 'nothing', which names no row: choose from selection=" in capsys.readouterr().err
    alone = cells.gather(tmp_path, "benchmark", where="selection=rank")
    assert "No p: " in summaries.summary(alone, columns.DISSERTATION).caption


def test_tables_read_the_sweep_that_was_declared_when_the_runs_were_made(tmp_path, monkeypatch):
    declared = sweeps.of_conf("radii")
    for each in declared.cells:
        make(tmp_path, "radii", **{key.replace(".", "__"): value for key, value in each.items()})
    (tmp_path / "radii" / sweeps.FILE).write_text(json.dumps(declared._asdict()))
    edited = declared._replace(values={"preset.stages.gross.radii": ["[0.5]", "[0.6]"]}, about="Something else.")
    monkeypatch.setattr(sweeps, "of_conf", lambda *_: edited)
    found = cells.gather(tmp_path, "radii")
    assert all(cell.sound for cell in found.cells) and len(found.cells) == 7 and found.about == declared.about
    assert cells.not_begun(tmp_path, "radii") == []
    (tmp_path / "radii" / sweeps.FILE).write_text('{"about"')  # half written: what conf/ says, then
    with pytest.raises(InputError, match=r"radii=\[0.5\] missing"):
        cells.gather(tmp_path, "radii")


def test_one_damaged_run_is_named_and_ends_nothing(tmp_path, capsys):
    sweep(tmp_path)
    lime, shap = (next(p for p in runs.find(tmp_path, "dissertation_cifar10") if runs.read_record(p)["method"] == name)
                  for name in ("lime", "shap"))  # fmt: skip
    (lime / "record.json").write_text("")
    chunk = next(shap.glob("chunks/*"))
    chunk.write_bytes(chunk.read_bytes()[:100])
    assert status.main([f"runs={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"{lime.name} +unreadable", text) and re.search("method=shap.* damaged +5/5", text)
    assert len([line for line in text.splitlines() if " finished " in line]) == 3
    with pytest.raises(InputError, match="method=lime missing"):
        cells.gather(tmp_path, "dissertation_cifar10")
    assert f"passed over: {lime}/record.json cannot be read" in capsys.readouterr().err
    found = cells.gather(tmp_path, "dissertation_cifar10", mark=True)
    assert [cell.sound for cell in found.cells] == [True, True, True, False, True]
    (shap / "rows.parquet").write_bytes(b"PAR1")
    (shap / "config.yaml").write_text("")
    assert tables.main([f"runs={tmp_path}", "experiment=dissertation_cifar10", f"out={tmp_path}/m", "mark=true"]) == 0
    assert f"passed over: {shap}/config.yaml holds no configuration" in capsys.readouterr().err
    assert status.main([f"runs={tmp_path}"]) == 0


def test_a_column_is_one_line(tmp_path, monkeypatch):
    run = runs.load(make(tmp_path, "benchmark"))
    mine = columns.Column("largest", -1, columns.percent, lambda run: float(run.rows["area"].max()))
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, mine))
    assert columns.quantities(run, columns.COLUMNS)["largest"] == 0.25
    heads = {column.name for column in columns.COLUMNS}
    assert {metric.head for metric in measured.METRICS.values() if metric.head} <= heads
    assert set(measured.METRICS) <= set(runs.ROWS)


def test_nothing_is_written_before_everything_is_rendered(tmp_path, monkeypatch):
    out = tmp_path / "made"
    given = [f"runs={sweep(tmp_path)}", "experiment=dissertation_cifar10", f"out={out}"]

    def broken(*_):
        raise InputError("no room")

    monkeypatch.setitem(rendering.RENDERERS, "html", broken)
    monkeypatch.setitem(figures.KINDS, "bars", broken)
    assert tables.main(given) == 2 and figures.main([*given, "kind=[front,bars]"]) == 2
    assert not out.exists()


# ----------------------------------------------------------------------------------------------------------- figures


def test_every_figure_is_written_with_text_as_text(tmp_path):
    out = tmp_path / "made"
    given = [f"runs={sweep(tmp_path)}", "experiment=dissertation_cifar10", f"out={out}", "images=1"]
    assert figures.main([*given, "format=png"]) == 0 and figures.main([*given, "format=pdf", "kind=grid"]) == 0
    kinds = ("bars", "convergence", "front", "grid")
    assert sorted(path.stem for path in out.glob("*.png")) == [f"dissertation_cifar10_{kind}" for kind in kinds]
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    (pdf,) = (path.read_bytes() for path in out.glob("*.pdf"))
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"CIDFontType2" in pdf and b"CreationDate" not in pdf


def test_the_grid_shows_what_the_network_saw(tmp_path):
    figure = grid.draw(cells.gather(sweep(tmp_path), "dissertation_cifar10"), 2)
    assert len(figure.axes) == 2 * (1 + 2 * len(METHODS))
    image = images()["images"][0].astype(np.float32) / 255
    original, ours = (axes.images[0].get_array() for axes in figure.axes[:2])
    np.testing.assert_array_equal(original, image)
    mask = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) < 8  # an eighth
    np.testing.assert_array_equal(ours, np.where(mask[..., None], image, 0))
    assert [axes.get_title() for axes in figure.axes[:6:2]] == ["original", "", ""]
    assert figure.axes[1].get_xlabel() == "cat\n0.50, 12%" and figure.axes[3].get_xlabel() == "cat\n0.50, 25% †"


def test_bars_and_bands():
    values = np.random.default_rng(0).random((7, 3))
    mean, low, high = drawing.band(values)
    np.testing.assert_allclose(mean, values.mean(0))
    expected = [statistics.bootstrap(column, seed=0, method="percentile") for column in values.T]
    np.testing.assert_allclose(low, [one.low for one in expected], atol=0.02)
    np.testing.assert_allclose(high, [one.high for one in expected], atol=0.02)


def test_bars_are_the_numbers_of_the_table(tmp_path):
    figure = bars.draw(cells.gather(sweep(tmp_path), "dissertation_cifar10"), 1)
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    assert widths[0] == pytest.approx([0.15, 0.7, 0.5, 0.4, 1.0]) and widths[1] == pytest.approx(
        [1.0, 0.6, 1.0, 1.0, 1.0]
    )
    assert [bar.get_hatch() for bar in figure.axes[0].patches] == ["///", "", "", "", ""]


def test_many_cells_get_a_panel_each(tmp_path):
    for method in sweeps.of_conf("complete_area_cifar10").cells:
        make(tmp_path, "complete_area_cifar10", **method)
    figure = front.draw(cells.gather(tmp_path, "complete_area_cifar10"), 1)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown[:4]] == ["evomask", "dissertation", "random search", "Grad-CAM"] and len(
        shown
    ) == 20
    curves = [[line for line in axes.lines if len(line.get_xdata()) > 2] for axes in shown]
    assert [len(lines) for lines in curves] == [1] + 19 * [2]
    rise = runs.arrays(
        cells.gather(tmp_path, "complete_area_cifar10", where="method=rise").cells[0].folder, "prefix_confidence"
    )
    at_the_end = rise["prefix_confidence"][:, -1].astype(float).mean()
    assert curves[8][1].get_ydata()[-1] == pytest.approx(at_the_end) and shown[8].get_title() == "RISE"
    for each in sweeps.of_conf("radii").cells:
        make(tmp_path, "radii", **{key.replace(".", "__"): value for key, value in each.items()})
    figure = convergence.draw(cells.gather(tmp_path, "radii"), 1)
    assert [len(axes.lines) for axes in figure.axes if axes.get_visible()] == 7 * [3 + 1]


def test_names_are_whole_and_of_the_keys_that_vary(tmp_path):
    for radii in ("[0.03,0.06,0.12]", "[0.12]"):
        for fitness in ("smallest_complete", "a_name_that_is_longer_than_any_line"):
            make(tmp_path, "mine", preset__stages__gross__radii=radii, fitness=fitness, selection="tournament")
    found = cells.gather(tmp_path, "mine", where="selection=tournament,rank")
    assert "selection" in found.keys
    titles = [each.title for each in found.cells]
    assert "gross radii [0.12], fitness smallest_complete" in titles and "tournament" not in "".join(titles)
    bare = lambda text: "".join(text.split())
    with figures.matplotlib.rc_context(figures.STYLE):
        drawn = [figures.KINDS[kind](found, 1) for kind in ("convergence", "front", "bars", "grid")]
    for figure in drawn:
        figure.draw_without_rendering()
        shown = [
            text
            for axes in figure.axes
            for text in (axes.title, *axes.get_yticklabels(), axes.yaxis.label, axes.xaxis.label)
        ]
        shown += [text for each in figure.legends for text in each.get_texts()]
        assert {bare(title) for title in titles} <= {bare(text.get_text()) for text in shown}
        for text in shown:
            box = text.get_window_extent()
            if text.get_text().strip("0123456789.") and text.get_visible():
                assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()
                assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()


def test_the_search_and_the_table_mean_different_things_and_the_figure_says_so(tmp_path):
    make(tmp_path, "benchmark", areas=(0.25, *[np.nan] * (NUM - 1)))
    figure = convergence.draw(cells.gather(tmp_path, "benchmark"), 1)
    constraints, star = figure.axes[-1].lines
    assert constraints.get_ydata().tolist() == [1.0] * 4 and star.get_ydata() == pytest.approx([0.2])
    assert figure.axes[-1].get_ylabel() == "share that meets\nthe search's constraints"
    assert "★ at the end: the share of complete masks" in figure.axes[-1].get_xlabel()


def test_every_method_has_a_look_of_its_own_without_colour():
    assert len({(style.marker, style.dashes) for style in map(drawing.style_of, range(12))}) == 12
    assert len({drawing.style_of(number) for number in range(24)}) == 24


# ------------------------------------------------------------------------------------------------------------ report


class Page(html.parser.HTMLParser):
    """Elements, and what is in them that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.links, self.text, self.json = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data):
        if self.elements and self.elements[-1] == ("script", {"type": "application/json", "id": "data"}):
            self.json += data


def decoded(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2])))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    given = [f"runs={sweep(out)}", "experiment=dissertation_cifar10", f"out={out}", "images=4"]
    assert report.main(given) == 0
    return out / "dissertation_cifar10.html"


def test_a_run_is_loaded_with_rows_that_match_its_arrays(tmp_path):
    path = make(tmp_path, "mine")
    found = load_run(path)
    assert found.record["method"] == found.rows["method"][0]
    assert found.arrays["mask"].dtype == bool and found.arrays["mask"].shape == (len(found.rows), 8, 8)
    np.testing.assert_allclose(found.arrays["mask"].mean((1, 2)), found.rows["area"], atol=1e-6)
    assert found.images["images"].shape[0] > found.rows["index"].max() and set(found.cuts["image"]) <= set(
        found.rows["image"]
    )
    with pytest.raises(InputError, match=f"no folder of a run: it holds the runs {path.name}: give one of them"):
        load_run(path.parent)
    with pytest.raises(InputError, match="give out/benchmark/NAME/HASH"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is interrupted"):
        load_run(make(tmp_path, "other", state="interrupted", done=2))


def test_the_page_is_whole_in_itself(written):
    text = written.read_text()
    page = Page(text)
    assert (
        all(link.startswith("data:image/png;base64,") for link in page.links)
        and len(page.links) == 3  # bars, convergence and front
        and "http://" not in text
        and "https://" not in text
        and "@import" not in text
        and "url(" not in text
    )
    assert all(values.get("alt") for tag, values in page.elements if tag == "img" and "src" in values)
    policy = next(values for tag, values in page.elements if values.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    heads = [tag for tag, values in page.elements if tag == "th"]
    rows = [values for tag, values in page.elements if tag == "td"]
    assert len(heads) == 25 and len(rows) == 5 * 25  # and the dialog's are made when it opens
    assert (
        rows[1]["data-by"] == "5.0"
        and rows[1]["data-head"] == "images"
        and sum(values.get("class") == "best" for values in rows) > 5
    )
    for wanted in ("cell", "class", "complete", "gallery", "large", "show-mask", "show-score", "back", "on", "close"):
        assert sum(values.get("id") == wanted for _, values in page.elements) == 1, wanted
    labelled = [tag for tag, values in page.elements if tag in ("select", "button", "input")]
    assert len(labelled) == 25 + 4 + 2 + 3


def test_the_gallery_shows_the_masks_and_scores_of_the_runs(written):
    data = json.loads(Page(written.read_text()).json)
    assert data["cells"] == ["evomask", "dissertation", "Grad-CAM", "LIME", "SHAP"] and data["ratio"] == 1.0
    assert [image["name"] for image in data["images"]] == ["picture_0", "picture_1", "picture_3", "picture_4"]
    assert len(data["items"]) == 4 * 5
    np.testing.assert_array_equal(np.asarray(decoded(data["images"][2]["picture"])), images()["images"][3])
    first = data["items"][0]
    assert (first["cell"], first["image"], first["class"], first["complete"], first["area"]) == (
        0,
        0,
        "cat",
        True,
        0.125,
    )
    layer = np.asarray(decoded(first["mask"]))
    np.testing.assert_array_equal(layer[..., 3], np.where(np.arange(64).reshape(8, 8) < 8, 0, 255))
    assert not layer[..., :3].any()
    folder = next(
        path
        for path in runs.find(written.parent, "dissertation_cifar10")
        if runs.read_record(path)["method"] == "evomask"
    )
    score = runs.arrays(folder, "score")["score"][0].astype(np.float32)
    shown = np.asarray(decoded(first["score"]), int)  # indices into the palette
    scaled = (score - score.min()) / (score.max() - score.min())
    assert np.abs(shown / (report.LEVELS - 1) - scaled).max() < 0.6 / (report.LEVELS - 1)
    assert data["items"][1]["status"] == "not sufficient" and data["items"][1]["masked"] == ["cat", 0.5]


def test_a_score_that_is_not_finite_is_grey():
    picture = decoded(report.heat(np.full((2, 2), np.nan, np.float32))).convert("RGB")
    assert (np.asarray(picture) == 128).all()


# What a reader does, and what must then be seen; the page's own functions are not called.
VISIT = """
<script>
const said = {};
const column = number => [...document.querySelectorAll("#results tbody tr")].map(row => row.cells[number].textContent);
const press = (where, key) => where.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const choose = (id, value) => { by(id).value = value; by(id).dispatchEvent(new Event("change")); };
const visible = () => [...document.querySelectorAll("#gallery li")].filter(item => item.offsetParent !== null).length;
said.title = document.title;
const area = heads.findIndex(head => head.textContent.startsWith("failures"));
heads[area].firstChild.click(); said.ascending = column(0);
heads[area].firstChild.click(); said.descending = column(0); said.sort = heads[area].getAttribute("aria-sort");
said.all = visible();
choose("complete", "false"); said.incomplete = visible();
choose("complete", ""); choose("cell", "1"); said.second = visible(); said.count = by("count").textContent;
choose("class", "dog"); said.dogs = visible();
choose("class", ""); choose("cell", "");
const cards_ = document.querySelectorAll(".card");
cards_[0].focus(); cards_[0].click();
said.open = by("large").open; said.head = by("title").textContent;
press(by("large"), "ArrowRight"); said.next = by("title").textContent;
press(by("large"), "ArrowLeft"); press(by("large"), "ArrowLeft"); said.start = by("title").textContent;
by("show-mask").click(); said.unmasked = getComputedStyle(by("l-mask")).display;
by("show-score").value = 50; by("show-score").dispatchEvent(new Event("input")); said.opacity =
getComputedStyle(by("l-score")).opacity; said.inside = by("large").getBoundingClientRect().right <= innerWidth;
by("close").click(); said.closed = !by("large").open; said.narrow = document.documentElement.scrollWidth <= innerWidth;
setTimeout(() => {
  said.focus = document.activeElement === cards_[0];
  said.broken = [...document.images].filter(image => image.src && image.complete && !image.naturalWidth).length;
  parent.document.title = "SAID" + JSON.stringify(said) + "DIAS";
}, 300);
</script></body>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; the tests above read the page without a browser")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(written, width, tmp_path):
    visited = tmp_path / "visited.html"
    visited.write_text(written.read_text().replace("</body>", VISIT))
    frame = tmp_path / "frame.html"  # windows of a browser have a least width, frames have none
    frame.write_text(
        f'<body style="margin:0"><iframe src="visited.html" style="width:{width}px;height:900px;border:0"></iframe>'
    )
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--virtual-time-budget=5000",
        # fmt: skip
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1400,1000",
        "--dump-dom",
        f"file://{frame}",
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    said = json.loads(html.unescape(re.search(r"SAID(.*)DIAS", dom)[1]))
    assert said["title"] == "dissertation_cifar10 – evomask"
    assert said["ascending"] == ["evomask", "LIME", "Grad-CAM", "dissertation", "SHAP"]
    assert said["descending"] == said["ascending"][::-1] and said["sort"] == "descending"
    assert (said["all"], said["incomplete"], said["second"], said["count"], said["dogs"]) == (20, 1, 4, "4 of 20", 2)
    assert said["open"] and said["head"] == "picture_0: why “cat”? evomask" and said["start"] == said["head"]
    assert said["next"] == "picture_0: why “cat”? dissertation"
    assert said["unmasked"] == "none" and said["opacity"] == "0.5"
    assert said["inside"] and said["narrow"] and said["closed"] and said["focus"] and said["broken"] == 0


# ------------------------------------------------------------------------------------------------------------ status


def test_the_overview_says_how_every_run_stands(tmp_path, capsys):
    sweep(
        tmp_path,
        lime=None,
        shap={"state": "failed", "error": "no such [layer]", "done": 2},
        gradcam={"state": "running", "done": 2},
    )
    make(
        tmp_path, "benchmark", budget=200, state="interrupted", done=4
    )  # another run than the finished ones of the sweep
    assert status.main([f"runs={tmp_path}", "experiment=dissertation_cifar10"]) == 0
    text = capsys.readouterr().out
    row = lambda method: next(line for line in text.splitlines() if line.startswith(f"method={method}"))
    assert re.search(r"finished +5/5 +1\.2 s each *$", row("evomask")) and "ValueError: no such [layer]" in row("shap")
    assert re.search(r"failed +2/5", row("shap")) and re.search(r"killed +2/5 +1\.0 s each +0:00:03", row("gradcam"))
    assert re.search("2 finished, 1 (killed, 1 failed|failed, 1 killed); 14 of 20 explanations", text)
    assert "not begun, of the experiment's own sweep: method=lime" in text and "benchmark" not in text
    assert status.main([f"runs={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "interrupted" in text and "4 of 5 explanations" in text and "14 of 20 explanations" in text


def test_a_run_at_work_is_running(tmp_path):
    run = make(tmp_path, state="running", done=2)
    with runs.locked(run, wait=False):
        found = status.state(run)
    assert (found.status, found.done, found.total, found.pace, found.left) == ("running", 2, NUM, 1.0, 3.0)
    assert status.state(run).status == "killed"
    runs.write_record(run, runs.read_record(run) | {"schema": 99})
    found = status.state(run)
    assert found.status == "unreadable" and "schema 99" in found.error


def test_overrides_with_blanks_and_brackets_in_where():
    assert cells.parse("budget=480 preset.stages.gross.radii=[0.03,0.06],[0.1]") == {
        "budget": ["480"], "preset.stages.gross.radii": ["[0.03,0.06]", "[0.1]"]}  # fmt: skip
    assert cells.parse(None) == {}


@pytest.mark.parametrize("name", ["tables", "figures", "report", "status"])
def test_help_is_printed(name, capsys):
    module = {"tables": tables, "figures": figures, "report": report, "status": status}[name]
    assert module.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert f"evomask {name}" in text and "Exit code 0" in text
    assert (cli.CONF / "results" / f"{name}.yaml").exists()


# ------------------------------------------------------------------------------------------------ which masks hold


def test_a_table_of_trust(tmp_path):
    runs_folder = tmp_path / "runs"
    make(runs_folder, "trust_x", method="evomask", areas={0: AREAS["evomask"], 1: AREAS["gradcam"]}, seeds=(0, 1))
    make(runs_folder, "trust_x", method="lime", areas={0: AREAS["dissertation"], 1: AREAS["lime"]}, seeds=(0, 1))
    found = summaries.summary(cells.gather(runs_folder, "trust_x"), columns.layout("trust_x"))
    numbers = found.numbers
    ours, lime = (np.array([AREAS[a], AREAS[b]]) for a, b in (("evomask", "gradcam"), ("dissertation", "lime")))
    lime = np.where(np.isnan(lime), 1, lime)
    assert cell(numbers, "evomask", "certified area") == pytest.approx(ours.mean())
    assert cell(numbers, "lime", "certified area") == pytest.approx(lime.mean())
    assert cell(numbers, "lime", "holds") == pytest.approx(0.8) and cell(numbers, "evomask", "holds") == 1.0
    assert cell(numbers, "evomask", "second certified area") == pytest.approx(ours.max(0).mean())
    assert cell(numbers, "evomask", "pieces") == 2.5 and cell(numbers, "evomask", "decision holds") == 1.0
    assert (
        0 <= cell(numbers, "evomask", "IoU of seeds") <= 1 and cell(found.text, "evomask", "p of certified area") == "*"
    )
    assert "holds elsewhere" not in numbers  # nobody asked


def test_right_classes_against_wrong_ones(tmp_path):
    runs_folder, out = tmp_path / "runs", tmp_path / "out"
    for method, right, wrong in (("evomask", "evomask", "gradcam"), ("lime", "lime", "shap")):
        make(runs_folder, "trust_sound", method=method, areas=AREAS[right], target="label")
        make(runs_folder, "trust_sound", method=method, areas=AREAS[wrong], target="second")
    argv = [f"runs={runs_folder}", f"out={out}", "experiment=trust_sound", "format=[md,csv]"]
    assert tables.main([*argv, "reference='method=evomask target=label'"]) == 0
    found = pd.read_csv(out / "trust_sound_soundness.csv").set_index(["method", "class"])
    means = {name: np.mean(AREAS[name]) for name in ("evomask", "gradcam", "lime")}
    assert found.loc[("evomask", "second"), "wrong / right"] == pytest.approx(means["gradcam"] / means["evomask"])
    assert found.loc[("lime", "second"), "wrong / right"] == pytest.approx(1 / means["lime"])
    assert found.loc[("lime", "second"), "AUROC"] == 1.0 and np.isnan(found.loc[("lime", "label"), "AUROC"])
    assert "| Lime" not in (out / "trust_sound_soundness.md").read_text()
    assert "| LIME | second | 100.0 % [100.0, 100.0] |" in (out / "trust_sound_soundness.md").read_text()


def test_standings_say_who_is_first_and_by_how_much(tmp_path):
    folder, out = sweep(tmp_path), tmp_path / "tables"
    assert tables.main([f"runs={folder}", f"out={out}", "experiment=dissertation_cifar10", "format=[md,csv]"]) == 0
    found = pd.read_csv(out / "dissertation_cifar10_standings.csv").set_index("metric")
    areas = {name: np.nan_to_num(values, nan=1.0) for name, values in AREAS.items()}
    means = {name: values.mean() for name, values in areas.items()}
    mine, first = means["evomask"], min(means, key=means.get)
    row = found.loc["failures as 1"]
    assert row["place"] == f"{1 + sum(mean < mine for mean in means.values())} of {len(means)}"
    rival = min((name for name in means if name != "evomask"), key=means.get)
    assert row["ahead"] == pytest.approx(means[rival] - mine) and row["mean"] == pytest.approx(mine)
    assert row["mean of the first"] == pytest.approx(means[first])
    assert [row["won"], row["lost"]] == [
        (areas["evomask"] < areas[rival]).sum(),
        (areas["evomask"] > areas[rival]).sum(),
    ]
    assert {"insertion", "deletion", "muFidelity", "ROAD", "insertion - deletion"} <= {*found.index}
    assert "IoU" not in found.index, "nobody knows the truth"
    assert "| failures as 1 | evomask |" in (out / "dissertation_cifar10_standings.md").read_text()
