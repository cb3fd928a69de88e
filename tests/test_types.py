"""`record`, on which every operator, fill, classifier and result is built."""

import itertools

import jax

from evomask import fills
from evomask import operators as ops
from evomask.types import record, static


@record
class One:
    rate: float = 0.5
    size: int = static(default=2)


@record
class Other:
    rate: float = 0.5
    size: int = static(default=2)


def test_classes_with_the_same_fields_have_different_structures():
    """Equal structures would let one operator run the compiled program of another (jax.tree_util.register_dataclass's
    are).
    """
    assert jax.tree.structure(One()) == jax.tree.structure(One(0.1))
    assert jax.tree.structure(One()) != jax.tree.structure(One(size=3))
    assert jax.tree.structure(One()) != jax.tree.structure(Other())


def test_no_two_parts_of_a_search_share_a_structure():
    parts = [
        *(ops.Tournament(), ops.Rank(), ops.Truncation(), ops.OnePoint(), ops.TwoPoint(), ops.Uniform()),
        *(ops.Replace(), ops.Move(), ops.Resize(), ops.Add(), ops.Drop(), ops.Split(), ops.Elitism(), ops.Plus()),
        *(
            ops.Scatter(),
            ops.Tile(),
            ops.Inherit(),
            ops.Bracket(),
            fills.Constant(),
            fills.Mean(),
            fills.Blur(),
            fills.Noise(),
        ),
    ]
    assert all(a != b for a, b in itertools.combinations(map(jax.tree.structure, parts), 2))


def test_a_record_is_rebuilt_from_its_leaves_and_names_them():
    leaves, structure = jax.tree.flatten_with_path(One(0.1, 3))
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".rate"]
    assert jax.tree.unflatten(structure, [0.2]) == One(0.2, 3)
