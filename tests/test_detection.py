"""Detections in the benchmark: the scenes, the detector, what is asked of each scene, and D-RISE's answer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evomask import data
from evomask.baselines import DRISE
from evomask.decisions import Box, decided
from evomask.types import InputError, record
from experiments import benchmark
from experiments.benchmarks import detection, imagesets, runs

SIDE = detection.SIDE
CANDIDATES = 6


@record
class Contrast:
    """A detector that knows where things may be: surer of each the more its pixels differ from grey."""

    boxes: jax.Array
    kinds: jax.Array
    image_shape = detection.Detector.image_shape
    labels = data.SHAPES

    def __call__(self, images):
        row, column = jnp.mgrid[:SIDE, :SIDE].astype(jnp.float32)[:, None] + 0.5
        left, top, right, bottom = (side[:, None, None] for side in self.boxes.T)
        inside = ((column > left) & (column < right) & (row > top) & (row < bottom)).astype(jnp.float32)
        stands_out = jnp.abs(images - 0.5).mean(-1)
        mean = jnp.einsum("nhw,mhw->nm", stands_out, inside / inside.sum((1, 2), keepdims=True))
        scores = jax.nn.sigmoid(40.0 * (mean - 0.15))[..., None] * jax.nn.one_hot(self.kinds, len(data.SHAPES))[None]
        return {"boxes": jnp.tile(self.boxes[None], (len(images), 1, 1)), "scores": scores}


def truth():
    key = jax.random.fold_in(jax.random.key(0), int.from_bytes(b"look", "big"))
    return jax.device_get(jax.jit(data.scenes, static_argnums=(1, 2))(key, CANDIDATES, SIDE))


def contrast():
    """What `Contrast` is told: where the things of all scenes are."""
    _, boxes, shapes = truth()
    return Contrast(jnp.asarray(boxes[shapes >= 0]), jnp.asarray(shapes[shapes >= 0]))


# ---------------------------------------------------------------------------------------------------------- scenes


def test_things_are_where_their_boxes_say():
    """Outside of all boxes there is ground only, and every thing covers the middle of its box or a later one does."""
    images, boxes, shapes = jax.device_get(jax.jit(data.scenes, static_argnums=1)(jax.random.key(5), 64))
    assert images.min() >= 0 and images.max() <= 1 and set(np.unique(shapes)) == {-1, 0, 1, 2, 3}
    assert ((shapes >= 0).sum(1) >= 2).all()
    row, column = np.mgrid[:SIDE, :SIDE] + 0.5
    for image, places, kinds in zip(images, boxes, shapes):
        inside = np.zeros((SIDE, SIDE), bool)
        for left, top, right, bottom in places[kinds >= 0]:
            inside |= (column > left - 1) & (column < right + 1) & (row > top - 1) & (row < bottom + 1)
        ground = image[~inside].mean(-1)
        assert 0.1 < ground.min() and ground.max() < 0.7
        x, y = (places[kinds >= 0, :2] + places[kinds >= 0, 2:]).T.astype(int) // 2
        middles = image[y, x].mean(-1)
        assert ((middles < 0.3) | (middles > 0.5)).all()


@pytest.mark.parametrize("wrong", [{"size": 16}, {"things": 1}, {"things": 10}])
def test_scenes_that_cannot_be(wrong):
    with pytest.raises(InputError, match="give 2 to 9 things, and 32 pixels or more"):
        data.scenes(jax.random.key(0), 1, **wrong)


# ------------------------------------------------------------------------------------------------------ the detector


def test_each_thing_is_wanted_of_one_cell():
    boxes = jnp.array([[[0.0, 0, 10, 12], [40, 8, 60, 28], [0, 0, 1, 1]]])
    is_here, wanted = detection.targets(boxes, jnp.array([[2, 0, -1]]))
    assert np.argwhere(np.asarray(is_here[0])).tolist() == [[0, 0], [2 * 8 + 6, 1]]
    np.testing.assert_array_equal(wanted[0, 22], boxes[0, 1])
    assert float(wanted[0].sum()) == float(boxes[0, :2].sum())


def test_the_loss_is_least_where_everything_is_said_right():
    boxes, shapes = jnp.array([[[8.0, 8, 24, 24]]]), jnp.array([[1]])
    logits = np.full((1, 8, 8, 4), -9.0, np.float32)
    logits[0, 2, 2, 1] = 9.0  # its middle is at (16, 16), the corner of four cells: the last of them
    reach = np.log(np.broadcast_to(np.float32([1.5, 1.5, 0.5, 0.5]), (1, 8, 8, 4)))
    right = np.concatenate([logits, reach], -1)
    assert float(detection.loss(jnp.asarray(right), boxes, shapes)) < 1e-3
    farther = right + np.float32([0, 0, 0, 0, 0.3, 0, 0, 0])
    unsure = right * np.float32([0, 0, 0, 0, 1, 1, 1, 1])
    for wrong in (farther, unsure, -right):
        assert float(detection.loss(jnp.asarray(wrong), boxes, shapes)) > 0.05


def test_a_detector_is_trained_once_and_learns(tmp_path, monkeypatch):
    monkeypatch.setenv("EVOMASK_CACHE", str(tmp_path))
    recipe = detection.Recipe(widths=(8, 8, 8), steps=60, batch=8, rate=0.01)
    network = detection.detector(recipe)
    (path,) = tmp_path.glob("detector-*.safetensors")
    written = path.stat().st_mtime_ns
    again = detection.detector(recipe)
    assert path.stat().st_mtime_ns == written and list(tmp_path.iterdir()) == [path]
    images, boxes, shapes = data.scenes(jax.random.key(9), 32)
    errors = []
    for params in (detection.train(recipe._replace(steps=0)), network.params, again.params):
        errors.append(
            float(detection.loss(detection.Cells(recipe.widths).apply({"params": params}, images), boxes, shapes))
        )
    assert errors[1] == errors[2] < 0.9 * errors[0]
    found = network(images)
    assert found["boxes"].shape == (32, 64, 4) and found["scores"].shape == (32, 64, 4)


def test_precision_and_recall_count_what_is_found():
    precision, recall = detection.precision_recall(lambda_of_truth(3, 20), 3, 20)
    assert precision == 1 and recall == 1
    precision, recall = detection.precision_recall(lambda_of_truth(3, 20, wrong=True), 3, 20)
    assert precision == 0 and recall == 0


def lambda_of_truth(seed, num, wrong=False):
    """A detector that returns the truth of these scenes, whatever it is shown."""
    _, boxes, shapes = jax.jit(data.scenes, static_argnums=(1, 2))(jax.random.key(seed), num, SIDE)
    kinds = jnp.where(shapes >= 0, (shapes + int(wrong)) % 4, -1)
    return jax.tree_util.Partial(
        lambda boxes, kinds, images: {"boxes": boxes, "scores": jax.nn.one_hot(kinds, 4)}, boxes, kinds
    )


# -------------------------------------------------------------------------------------------------- what is asked


def test_the_surest_right_box_is_asked_about():
    boxes, shapes = np.array([[0.0, 0, 20, 20], [30, 30, 50, 50]], np.float32), np.array([0, 1])
    found = {
        "boxes": np.array([[[0, 0, 20, 20], [30, 30, 52, 50], [30, 30, 50, 50], [0, 40, 10, 60]]], np.float32),
        "scores": np.array([[[0, 0.99, 0], [0, 0.7, 0.2], [0, 0.6, 0], [0.9, 0, 0]]], np.float32),
    }
    asked = detection.right(found, boxes, shapes)  # the first is no disc, the last lies on nothing
    assert asked is not None and asked.label == 1 and asked.box.tolist() == [30, 30, 52, 50]
    assert detection.right(found | {"scores": 0.5 * found["scores"]}, boxes, shapes) is None


def test_a_decision_for_each_image():
    network, source = contrast(), detection.detections(detection.Detector.image_shape, 1.0, CANDIDATES, 0)
    chosen = imagesets.select(source, network, 3, True, "label")
    assert len(chosen.images) == len(chosen.decisions) == 3 and set(chosen.labels) == {0}
    arrays = chosen.arrays()
    assert arrays["decision_0"].shape == (3, 4) and arrays["decision_1"].shape == (3,)
    for index, decision in enumerate(chosen.decisions):
        logits = chosen.asked(network, index)(chosen.pixels[index : index + 1])
        assert logits.shape == (1, 2) and float(logits[0, 0]) > 0
        assert chosen.asked(network, index).labels[0] == f"{data.SHAPES[int(decision.label)]} in the box"
    with pytest.raises(InputError, match="leave decision=classes"):
        imagesets.select(source, chosen.asked(network, 0), 3, True, "label")
    with pytest.raises(InputError, match="of none of the 6 images anything is asked"):
        imagesets.select(source, Contrast(0.1 * network.boxes, network.kinds), 3, True, "label")
    with pytest.raises(InputError, match=r"scenes are \[64, 64, 3\], the network takes \[32, 32, 3\]"):
        detection.detections((32, 32, 3), 1.0, CANDIDATES, 0)


def test_detections_are_explained_in_a_benchmark(tmp_path):
    """Our mask and D-RISE's lie on the thing."""
    scenes = ["model=custom", "model.network._target_=test_detection.contrast", "data=scenes", "data.num=1"]
    few = ["fill=grey", "cut_steps=32", "auc_steps=8", "fidelity_subsets=8", f"data.candidates={CANDIDATES}"]
    common = [*scenes, *few, f"out={tmp_path}"]
    search = ["budget=320", "stages=flat", "preset.stages.gross.genes=8"]
    assert benchmark.main([*common, *search]) == 0
    assert benchmark.main([*common, "method=drise", "method.grid=8", "budget=320"]) == 0
    found = [runs.load(folder) for folder in runs.find(tmp_path, "benchmark")]
    assert {one.record["method"] for one in found} == {"evomask", "drise"}
    _, boxes, _ = truth()
    for one in found:
        assert one.rows["complete"].all() and one.rows["label_name"].tolist() == ["stands"]
        images = runs.images(one.folder)
        for mask, (left, top, right, bottom) in zip(runs.arrays(one.folder)["mask"], images["decision_0"]):
            inside = mask[int(top) : int(bottom) + 1, int(left) : int(right) + 1].sum()
            assert inside >= 0.8 * mask.sum()


# ------------------------------------------------------------------------------------------------------------ D-RISE


def test_drise_weighs_masks_by_the_best_box_under_them():
    """Two boxes in one corner, as sure as that is bright. Of the first one (0.8, 0.6) the best is always itself, its
    cosine is 1, its greatest score 0.8. Of the second one (0, 1) likewise, with 1.0; the other has 1/2 x 0.6 x 0.8.
    """
    boxes, likely = jnp.array([[[0.0, 0, 8, 8], [0, 0, 8, 16]]]), jnp.array([[[0.8, 0.6], [0.0, 1.0]]])

    def corner(parts, images):
        bright = images[:, :2, :2, 0].mean((1, 2))[:, None, None]
        return {"boxes": jnp.tile(parts[0], (len(images), 1, 1)), "scores": bright * parts[1]}

    network, image = jax.tree_util.Partial(corner, (boxes, likely)), np.ones((1, 16, 16, 1), np.float32)
    score = lambda box, label: DRISE(grid=4)(decided(network, Box(box, label)), image, [0], key=3, budget=101)[0]
    first, second = score((0, 0, 8, 8), 0), score((0, 0, 8, 16), 1)
    np.testing.assert_allclose(first, 0.8 * second, rtol=1e-5)
    assert float(second[:2, :2].mean()) > 1.2 * float(second[8:, 8:].mean())
    between = score((0, 0, 8, 12), 1)  # the second one has an IoU of 3/4 with it
    np.testing.assert_allclose(between, 0.75 * second, rtol=1e-5)


def test_drise_needs_a_box():
    with pytest.raises(InputError, match="D-RISE got a classifier .*: give a detector with a box to explain"):
        DRISE()(
            jax.tree_util.Partial(lambda images: images.mean((1, 2))), np.ones((1, 16, 16, 3)), [0], key=0, budget=9
        )
