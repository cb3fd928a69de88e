"""Readers: every layout written here, read back, and damaged."""

import hashlib
import io
import os
import pickle
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

import evomask
from evomask import data
from evomask.data import classes, generated, photographs, sets
from evomask.types import InputError
from experiments.benchmarks import imagesets


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
    found = data.decode(file.getvalue(), "half white", size=10)
    assert found.shape == (10, 10, 3) and found[:, 1:-1].min() == 255  # at the edge, the filter sees what lies beyond


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
    with pytest.raises(data.DataError, match="train/cat/1.png in .*set' is not an image in a known format"):
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


def odd_pictures(folder):
    """What training and explaining have decoded differently: 16 bits, transparency, palettes, turned photographs."""
    folder.mkdir(parents=True)
    Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)).save(folder / "grey16.png")
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 32, 64))
    clear.save(folder / "alpha.png")
    clear.convert("P").save(folder / "palette.png", transparency=0)
    turned, exif = Image.new("RGB", (64, 48)), Image.Exif()
    turned.paste("white", (0, 0, 64, 20))
    exif[0x0112] = 6
    turned.save(folder / "turned.png", exif=exif)
    Image.effect_noise((61, 40), 80).convert("CMYK").save(folder / "print.jpg")
    Image.effect_noise((40, 61), 80).convert("1").save(folder / "bits.tiff")
    Image.effect_noise((40, 61), 80).save(folder / "film.gif", save_all=True, append_images=[Image.new("L", (40, 61))])


def test_one_decoder_for_training_explaining_and_benchmarks(tmp_path):
    for split in ("train", "test"):
        odd_pictures(tmp_path / "set" / split / "odd")
    packed = pack(tmp_path / "set", tmp_path / "set.tar.gz")
    files = sorted((tmp_path / "set" / "test" / "odd").iterdir())
    expected = np.stack([photographs.load(file, (32, 32, 3)).image * 255 for file in files])
    for path in (tmp_path / "set", packed):
        np.testing.assert_array_equal(data.load(path, size=32)[1].images, expected)
    source = imagesets.tree((32, 32, 3), 1.0, str(tmp_path / "set"))
    np.testing.assert_array_equal([source.read(index) for index in range(len(files))], expected)
    np.testing.assert_array_equal(data.decode(files[0].read_bytes(), "a", 32), expected[0])


def test_what_lies_about_in_a_folder_is_passed_over(tmp_path):
    """Hidden files and folders, a pipe, links that lead back, half-written files, an empty class, a large archive."""
    root = tmp_path / "[my] set ~"
    write_tree(root)
    before = data.load(root)
    for split in ("train", "test"):
        hidden = root / split / ".ipynb_checkpoints"
        hidden.mkdir()
        (hidden / "0-checkpoint.png").write_bytes((root / "train" / "cat" / "0.png").read_bytes())
        (root / split / "empty").mkdir()
        (root / split / "cat" / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
        (root / split / "cat" / "9.png.part").write_bytes(b"half")
        (root / split / "cat" / "notes.txt").write_text("text")
        (root / split / "cat" / "folder.png").mkdir()
        os.mkfifo(root / split / "cat" / "pipe.png")
        for name in ("cat", "dog"):
            os.symlink("..", root / split / name / "up")
    with open(root / "archive.bin", "wb") as file:
        file.truncate(2**40)  # more than any memory
    after = data.load(root)
    for old, new in zip(before, after):
        assert new.names == ("cat", "dog")
        np.testing.assert_array_equal(old.images, new.images)
        np.testing.assert_array_equal(old.labels, new.labels)
    source = imagesets.tree((32, 32, 3), 1.0, str(root))
    assert source.classes == ("cat", "dog") and list(source.names) == [
        f"{name}/{number}" for name in ("cat", "dog") for number in range(3)
    ]


def test_archives_hold_the_same_odd_things(tmp_path):
    written = write_tree(tmp_path / "set")
    (tmp_path / "set" / "train" / "cat" / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "set" / "train" / ".hidden").mkdir()
    os.link(tmp_path / "set" / "train" / "cat" / "0.png", tmp_path / "set" / "train" / "dog" / "9.png")
    os.mkfifo(tmp_path / "set" / "train" / "cat" / "pipe.png")
    train, _ = data.load(pack(tmp_path / "set", tmp_path / "set.tar.gz"))
    assert train.names == ("cat", "dog") and train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(train.images[-1], written["train", "cat", 0])  # a link is what it leads to
    os.symlink("gone.png", tmp_path / "set" / "train" / "dog" / "link.png")
    with pytest.raises(data.DataError, match="link.png in .* is a link to 'gone.png', which is not in it"):
        data.load(pack(tmp_path / "set", tmp_path / "set.tar.gz"))


def test_linked_folders_are_read(tmp_path):
    write_tree(tmp_path / "real")
    (tmp_path / "set").mkdir()
    for split in ("train", "val"):
        os.symlink(tmp_path / "real" / "train", tmp_path / "set" / split)
    train, test = data.load(tmp_path / "set")
    assert len(train) == len(test) == 6


def test_splits_one_folder_down_and_in_capitals(tmp_path):
    write_tree(tmp_path / "set" / "inner", splits=("Train", "Test"))
    assert len(data.load(tmp_path / "set")[0]) == 6


def test_all_damaged_pictures_are_counted(tmp_path):
    write_tree(tmp_path)
    for number in range(2):
        (tmp_path / "train" / "cat" / f"{number}.png").write_bytes(b"")
        (tmp_path / "train" / "dog" / f"{number}.png").write_bytes(b"no picture")
    os.symlink("gone.png", tmp_path / "train" / "dog" / "a.png")
    with pytest.raises(
        data.DataError, match=r"cat/0.png .* is empty .*cat/1.png .*dog/0.png .*\(5 pictures cannot be read"
    ):
        data.load(tmp_path)


def test_a_damaged_cache_is_made_anew(tmp_path, cache):
    write_tree(tmp_path / "set")
    path = pack(tmp_path / "set", tmp_path / "set.tar.gz")
    first, _ = data.load(path)
    (file,) = cache.iterdir()
    for content in (b"", file.read_bytes()[:2000]):
        file.write_bytes(content)
        np.testing.assert_array_equal(data.load(path)[0].images, first.images)
        assert list(cache.iterdir()) == [file] and file.stat().st_size > 2000


def test_file_names_of_any_bytes(tmp_path):
    names = [b"m\xe9.png", b"two\nlines.png", "caf\u00e9.png".encode(), b"-n.png", b" a .png"]
    for split in (b"train", b"test"):
        folder = os.path.join(os.fsencode(tmp_path), split, b"caf\xe9")
        os.makedirs(folder)
        for name in names:
            Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
            os.replace(tmp_path / "a.png", os.path.join(folder, name))
    train, _ = data.load(tmp_path)
    assert train.names == ("caf%E9",) and len(train) == 5
    source = imagesets.tree((8, 8, 3), 1.0, str(tmp_path))
    assert sorted(source.names) == sorted(f"caf%E9/{n}" for n in ("m%E9", "two%0Alines", "caf\u00e9", "-n", " a "))
    for name in (*source.names, *train.names):
        name.encode()
    files = photographs.expand(tmp_path / "test" / os.fsdecode(b"caf\xe9"))
    assert all(photographs.load(file, (8, 8, 3)).name.encode() for file in files) and len(files) == 5


def test_every_folder_of_imagenet_is_its_own_class():
    labels = classes.lines(data.IMAGENET_LABELS)
    wnids = classes.lines(data.IMAGENET_WNIDS)
    for folders in (wnids, data.class_names(wnids)):  # the cardigan (474) is not the Cardigan (264)
        np.testing.assert_array_equal(data.class_indices(folders, labels), np.arange(1000))
    np.testing.assert_array_equal(data.class_indices(labels, wnids), np.arange(1000))  # a network that names them so
    assert data.class_index("n02963159", labels) == data.class_index("cardigan", labels) == 474
    with pytest.raises(
        InputError, match="label 'CARDIGAN' fits several classes: choose from 264 Cardigan, 474 cardigan"
    ):
        data.class_index("CARDIGAN", labels)


def test_names_that_are_numbers_and_names_given_twice():
    assert data.class_index("3", ["5", "3", "1"]) == data.class_index(3, ["5", "3", "1"]) == 1
    assert data.class_index(0, ["5", "3", "1"]) == 0
    assert data.class_indices(["Golf_ball", "1"], ["1", "golf ball"]).tolist() == [1, 0]
    with pytest.raises(InputError, match="label 'crane' fits several classes: choose from 0 crane, 1 crane"):
        data.class_index("crane", ["crane", "crane"])
    with pytest.raises(InputError, match="the class 'crane' may be any of 0 crane, 1 crane: call it as the classifier"):
        data.class_indices(["crane"], ["crane", "crane"])
    with pytest.raises(InputError, match=r"the classifier knows no class '2' \(1 of 1 classes\)"):
        data.class_indices(["2"], ["cat", "dog", "emu"])  # a number that is no name would be a guess
    with pytest.raises(data.DataError, match="'n01440764' and 'tench' are both the class 'tench': merge them"):
        data.class_names(["n01440764", "tench"])


def test_an_unknown_class_gets_the_names_or_the_nearest():
    with pytest.raises(
        InputError, match="no class is called 'elephant'; choose from 0 airplane, 1 automobile, .*9 truck"
    ):
        data.class_index("elephant", data.CIFAR10_LABELS)
    with pytest.raises(
        InputError, match="no class is called 'aeroplane'; near: 0 airplane; or give an index from 0 to 9"
    ):
        data.class_index("aeroplane", data.CIFAR10_LABELS)
    with pytest.raises(InputError, match="label 12 is out of range: give an index from 0 to 9, or a name"):
        data.class_index(12, data.CIFAR10_LABELS)


@pytest.mark.parametrize("labels", [(True, False), (0.5, 1), (None, "a"), "ab", {0: "a", 1: "b"}, 3])
def test_labels_that_are_no_names_are_refused(labels):
    with pytest.raises(InputError, match="labels"):
        evomask.as_classifier(lambda images: images.mean((1, 2))[:, :2], labels=labels)
    with pytest.raises(InputError, match="labels"):
        evomask.BlackBox(lambda images: images.mean((1, 2))[:, :2], num_classes=2, labels=labels)


def test_labels_that_are_numbers_become_text():
    assert evomask.as_classifier(lambda images: images.mean((1, 2)), labels=[3, np.int64(1), "a\nb"]).labels == (
        "3", "1", "a%0Ab",
    )  # fmt: skip


def test_planted_evidence_is_where_the_truth_says():
    images, labels, truth = jax.jit(data.planted_evidence, static_argnums=1)(jax.random.key(3), 64)
    assert images.min() >= 0 and images.max() <= 1 and set(labels.tolist()) == {0, 1, 2, 3}
    patterns = np.asarray(generated._patterns()).astype(bool)
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
