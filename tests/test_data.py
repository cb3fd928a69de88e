"""Readers: every layout written here, read back, and damaged."""

import hashlib
import io
import pickle
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

from evomask import data
from evomask.data import sets


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVOMASK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def random_images(seed, num, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, (num, *shape), dtype=np.uint8)


def write_official(folder):
    """CIFAR-10's own layout: rows of 3072 bytes, channel by channel; images differ from batch to batch."""
    folder.mkdir()
    written = {}
    for i, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        images, labels = random_images(i, 4), [i, 9, 0, 3]
        rows = images.transpose(0, 3, 1, 2).reshape(4, -1)
        (folder / name).write_bytes(pickle.dumps({b"data": rows, b"labels": labels}))
        written[name] = images, labels
    return written


def write_tree(folder, classes=("cat", "dog"), splits=("train", "test"), shape=(32, 32, 3)):
    written = {}
    for s, split in enumerate(splits):
        for c, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i, image in enumerate(random_images(10 * s + c, 3, shape)):
                Image.fromarray(image).save(folder / split / name / f"{i}.png")
                written[split, name, i] = image
    return written


def pack(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        for child in sorted(folder.iterdir()):
            archive.add(child, f"{folder.name}/{child.name}")
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_official_cifar10(tmp_path, packed):
    folder = tmp_path / "cifar-10-batches-py"
    written = write_official(folder)
    path = pack(folder, tmp_path / "mine.tar.gz") if packed else folder
    train, test = data.load(path)
    assert train.names == data.CIFAR10_LABELS and len(train) == 20 and len(test) == 4
    np.testing.assert_array_equal(train.images[8:12], written["data_batch_3"][0])
    np.testing.assert_array_equal(train.labels[:8], [0, 9, 0, 3, 1, 9, 0, 3])
    np.testing.assert_array_equal(test.images, written["test_batch"][0])


@pytest.mark.parametrize("packed", [False, True])
def test_tree_of_classes(tmp_path, packed, cache):
    written = write_tree(tmp_path / "set")
    path = pack(tmp_path / "set", tmp_path / "set.tar.gz") if packed else tmp_path / "set"
    train, test = data.load(path)
    assert train.names == test.names == ("cat", "dog")
    np.testing.assert_array_equal(train.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(train.images[4], written["train", "dog", 1])
    np.testing.assert_array_equal(test.images[2], written["test", "cat", 2])
    assert len(list(cache.glob("*.npz"))) == packed  # archives are decoded once
    if packed:
        again, _ = data.load(path)
        np.testing.assert_array_equal(again.images, train.images)


def test_a_changed_archive_is_read_anew(tmp_path):
    write_tree(tmp_path / "set")
    data.load(pack(tmp_path / "set", tmp_path / "set.tar.gz"))
    Image.fromarray(random_images(99, 1)[0]).save(tmp_path / "set" / "train" / "cat" / "9.png")
    train, _ = data.load(pack(tmp_path / "set", tmp_path / "set.tar.gz"))
    assert len(train) == 7


def test_imagenette_layout_is_named_and_resized(tmp_path):
    write_tree(tmp_path / "nette", ("n01440764", "n03888257"), ("train", "val"), (40, 60, 3))
    train, test = data.load(tmp_path / "nette", size=24)
    assert train.names == ("tench", "parachute")
    assert train.images.shape == (6, 24, 24, 3) and test.images.shape == (6, 24, 24, 3)


def test_decode_keeps_the_central_square():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 255
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    assert data.decode(file.getvalue(), "half white", size=10).min() == 255


def test_missing_and_empty_sets(tmp_path):
    with pytest.raises(data.DataError, match="no image set at .*cifar-10-python.tar.gz.*md5 c58f3.*data.path="):
        data.load(tmp_path / "nothing")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(data.DataError, match="no image under train/<class>/"):
        data.load(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(data.DataError, match="notes.txt' is neither a folder nor one of .tar"):
        data.load(tmp_path / "notes.txt")


def test_damaged_inputs(tmp_path):
    write_tree(tmp_path / "set")
    whole = pack(tmp_path / "set", tmp_path / "set.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(data.DataError, match="half.tar.gz' is damaged"):
        data.load(tmp_path / "half.tar.gz")
    (tmp_path / "set" / "train" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(data.DataError, match="1.png in .* is no readable image"):
        data.load(tmp_path / "set")


def test_damaged_batches(tmp_path):
    write_official(tmp_path / "cifar")
    (tmp_path / "cifar" / "data_batch_2").write_bytes(b"\x80\x02")
    with pytest.raises(data.DataError, match="a batch in .* is damaged"):
        data.load(tmp_path / "cifar")
    (tmp_path / "cifar" / "data_batch_2").unlink()
    with pytest.raises(data.DataError, match="lacks data_batch_2"):
        data.load(tmp_path / "cifar")


def test_official_archive_is_checked(tmp_path, monkeypatch):
    write_official(tmp_path / "cifar-10-batches-py")
    path = pack(tmp_path / "cifar-10-batches-py", tmp_path / data.CIFAR10_ARCHIVE)
    with pytest.raises(data.DataError, match="bytes instead of 170,498,071"):
        data.load(path)
    monkeypatch.setattr(sets, "CIFAR10_BYTES", path.stat().st_size)
    with pytest.raises(data.DataError, match="instead of c58f30108f718f92721af3b95e74349a"):
        data.load(path)
    monkeypatch.setattr(sets, "CIFAR10_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    assert len(data.load(path)[0]) == 20


def test_classes_and_sizes_must_agree(tmp_path):
    write_tree(tmp_path / "set")
    Image.fromarray(random_images(0, 1, (16, 16, 3))[0]).save(tmp_path / "set" / "train" / "dog" / "small.png")
    with pytest.raises(data.DataError, match="images of 2 sizes.*data.size="):
        data.load(tmp_path / "set")
    (tmp_path / "set" / "test" / "emu").mkdir()
    Image.fromarray(random_images(0, 1)[0]).save(tmp_path / "set" / "test" / "emu" / "0.png")
    with pytest.raises(data.DataError, match=r"classes \['emu'\] occur under test/ but not under train/"):
        data.load(tmp_path / "set", size=16)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), [0, 1], "must be uint8"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1], r"not uint8\[2, 4, 4\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0], "2 images, but labels of shape"),
        (np.zeros((0, 4, 4, 3), np.uint8), [], "without images"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 2], r"labels must be 0 \.\. 1"),
    ],
)
def test_datasets_refuse_wrong_arrays(images, labels, message):
    with pytest.raises(data.DataError, match=message):
        data.Dataset(images, np.array(labels, np.int32), ("a", "b"))


def test_samples(monkeypatch):
    shipped = data.samples("cifar10")
    twenty = data.samples("foolbox_cifar10")
    assert len(twenty) == 20 and len(set(shipped.labels.tolist())) == 8
    for image, label in zip(shipped.images, shipped.labels):
        (match,) = np.flatnonzero((twenty.images == image).all((1, 2, 3)))
        assert twenty.labels[match] == label
    photographs = data.samples("foolbox_imagenet")
    assert photographs.images.shape == (20, 224, 224, 3) and photographs.names[photographs.labels[0]] == "bull mastiff"
    with pytest.raises(data.DataError, match="no samples named 'svhn': choose one of cifar10"):
        data.samples("svhn")
    monkeypatch.setattr(sets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(data.DataError, match="pip install foolbox"):
        data.samples("foolbox_cifar10")


def test_planted_evidence_is_where_the_truth_says():
    images, labels, truth = jax.jit(data.planted_evidence, static_argnums=1)(jax.random.key(3), 64)
    assert images.min() >= 0 and images.max() <= 1 and set(labels.tolist()) == {0, 1, 2, 3}
    patterns = np.asarray(sets._patterns()).astype(bool)
    np.testing.assert_array_equal(patterns.sum((1, 2)), 18)  # brightness says nothing
    for image, label, mask in zip(np.asarray(images), labels, np.asarray(truth)):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == 36 and len(rows) == len(cols) == 6
        bright = image[rows[0] : rows[0] + 6, cols[0] : cols[0] + 6].mean(-1) > 0.4
        np.testing.assert_array_equal(bright, patterns[label])
    centres = [np.argwhere(mask).mean(0) for mask in np.asarray(truth)]
    assert np.std(centres, axis=0).min() > 5  # anywhere in the image


def test_planted_evidence_refuses_a_crowd():
    with pytest.raises(ValueError, match="size 16 must be a multiple of 8 with more than 4 cells"):
        data.planted_evidence(jax.random.key(0), 2, size=16, distractors=4)
