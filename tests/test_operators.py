"""One contract for every registered operator, then what each promises: by hand, or within four standard errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evomask import operators as ops
from evomask.search import genome as genes
from evomask.search import scoring
from evomask.types import Evaluation, InputError

KEY = jax.random.key(0)
SHAPE = (61, 51)
GENES, POPULATION, DRAWS = 5, 6, 4000  # one set of shapes, since compiling is what takes the time here
space = jax.jit(genes.space)
rasterize = jax.jit(genes.rasterize, static_argnums=1)
EVERYWHERE = space(jnp.ones(SHAPE, bool), jnp.array([1, 3]))
FOUR = [[3, 4, 1], [3, 4, 3], [7, 1, 1], [7, 1, 3]]  # all the genes of a space of two pixels
TWO_PIXELS = space(jnp.zeros(SHAPE, bool).at[jnp.array([3, 7]), jnp.array([4, 1])].set(True), jnp.array([1, 3]))
GENOME = jnp.array([[4, 4, 2], [6, 3, 0], [0, 0, -1], [60, 50, 5], [2, 7, 1]], jnp.int32)
FAR = GENOME.at[:, 2].set(9)  # no draw of the space equals a gene
OTHER = jnp.array([[1, 1, 1], [2, 2, -1], [3, 3, 3], [4, 4, 0], [5, 5, 2]], jnp.int32)
CHAMPION = GENOME[:3]
FITNESS = jnp.array([3.0, jnp.nan, 1.0, 5.0, 4.0, 2.0])
REGISTRIES = {
    "selection": ops.SELECTIONS,
    "crossover": ops.CROSSOVERS,
    "mutation": ops.MUTATIONS,
    "survival": ops.SURVIVALS,
    "founders": ops.FOUNDERS,
}
ARGUMENTS = {  # of one call, and what the sizes among them are
    "selection": ((KEY, FITNESS, 7), (2,)),
    "crossover": ((KEY, GENOME, OTHER), ()),
    "mutation": ((KEY, GENOME, EVERYWHERE), ()),
    "survival": ((FITNESS, 3), (1,)),
    "founders": ((KEY, EVERYWHERE, 4, GENES, CHAMPION), (2, 3)),
}
EXPECTED_SHAPE = {
    "selection": (7,),
    "crossover": (2, GENES, 3),
    "mutation": (GENES, 3),
    "survival": (3,),
    "founders": (4, GENES, 3),
}
OPERATORS = [pytest.param(kind, name, id=name) for kind, registry in REGISTRIES.items() for name in registry]
every = pytest.mark.parametrize("kind, name", OPERATORS)


def build(kind, name):
    if name == "mixture":
        return ops.Mixture((ops.Replace(), ops.Drop()), (1.0, 3.0), 0.5)
    return REGISTRIES[kind][name]()


@functools.cache
def compiled(kind):
    """One jitted call per kind, with the operator as an argument, and the list of its traces."""
    traces = []

    def call(operator, *args):
        traces.append(operator)
        return operator(*args)

    sizes = tuple(1 + place for place in ARGUMENTS[kind][1])
    return jax.jit(call, static_argnums=sizes), traces


def drawn(mutation, genome=GENOME, space=EVERYWHERE):
    """Mutants of one genome: int32[DRAWS, G, 3]."""
    return np.asarray(_drawn(mutation, jax.random.split(KEY, DRAWS), genome, space))


@jax.jit
def _drawn(mutation, keys, genome, space):
    return jax.vmap(lambda key: mutation(key, genome, space))(keys)


def alone(*gene):
    """One patch and four genes that are off."""
    return jnp.full((GENES, 3), genes.OFF, jnp.int32).at[1].set(jnp.array(gene))


def select(selection, fitness, num=8000):
    """How often each individual is drawn: int[P]."""
    call, _ = compiled("selection")
    return np.bincount(call(selection, KEY, fitness, num), minlength=POPULATION)


def changed(mutants, genome=GENOME):
    """bool[num, G]: which genes differ from the parent's."""
    return (mutants != np.asarray(genome)).any(-1)


def assert_frequencies(counts, probabilities):
    """Counts[n] of independent draws are within four standard errors of their probabilities."""
    counts, probabilities = np.asarray(counts), np.asarray(probabilities)
    sigma = np.sqrt(probabilities * (1 - probabilities) / counts.sum())
    assert (np.abs(counts / counts.sum() - probabilities) <= 4 * sigma + 1e-12).all(), (counts, probabilities)


# ---------------------------------------------------------------------------------------------------- the contract


@every
def test_shape_dtype_and_jit_equals_eager(kind, name):
    operator, args = build(kind, name), ARGUMENTS[kind][0]
    call, _ = compiled(kind)
    found = call(operator, *args)
    assert found.dtype == jnp.int32 and found.shape == EXPECTED_SHAPE[kind]
    np.testing.assert_array_equal(operator(*args), found)


@every
def test_the_key_decides_and_nothing_else(kind, name):
    operator, args = build(kind, name), ARGUMENTS[kind][0]
    call, _ = compiled(kind)
    np.testing.assert_array_equal(call(operator, *args), call(operator, *args))
    if kind != "survival":
        keys = jax.random.split(jax.random.key(1), 20)
        results = {np.asarray(call(operator, key, *args[1:])).tobytes() for key in keys}
        assert len(results) > 1


@every
def test_an_operator_is_a_pytree_whose_floats_are_leaves(kind, name):
    operator = build(kind, name)
    leaves, structure = jax.tree.flatten(operator)
    assert all(isinstance(leaf, float) for leaf in leaves)
    assert jax.tree.unflatten(structure, leaves) == operator
    floats = [field for field in dataclasses.fields(operator) if isinstance(getattr(operator, field.name), float)]
    assert len(leaves) >= len(floats)
    hash(structure)  # static fields can be compared: they are part of the key of the compiled program


@every
def test_a_changed_float_does_not_compile_again(kind, name):
    operator, args = build(kind, name), ARGUMENTS[kind][0]
    call, traces = compiled(kind)
    call(operator, *args)
    before = len(traces)
    call(jax.tree.map(lambda x: 0.5 * x + 0.1, operator), *args)
    assert len(traces) == before


@pytest.mark.parametrize("operator", [ops.Tournament(2), ops.Elitism(0)], ids=repr)
def test_a_changed_size_compiles_again(operator):
    kind = "selection" if isinstance(operator, ops.Tournament) else "survival"
    call, traces = compiled(kind)
    call(type(operator)(), *ARGUMENTS[kind][0])
    before = len(traces)
    call(operator, *ARGUMENTS[kind][0])
    assert len(traces) == before + 1


@pytest.mark.parametrize("name", ops.SELECTIONS)
def test_selected_indices_are_in_range_and_nan_counts_as_worst(name):
    call, _ = compiled("selection")
    found = call(build("selection", name), KEY, FITNESS, 8000)
    assert set(found.tolist()) <= set(range(POPULATION))
    worst = FITNESS.at[1].set(-jnp.inf)
    np.testing.assert_array_equal(found, call(build("selection", name), KEY, worst, 8000))


@pytest.mark.parametrize(
    "selection", [ops.Tournament(64), ops.Rank(2.0), ops.Truncation(0.8)], ids=lambda x: type(x).__name__
)
def test_strict_selection_never_takes_nan(selection):
    assert select(selection, FITNESS)[1] == 0


@pytest.mark.parametrize("name", ops.SELECTIONS)
def test_a_population_of_nan_only_and_one_of_one_can_be_selected_from(name):
    assert len(select(build("selection", name), jnp.full(POPULATION, jnp.nan))) == POPULATION  # none is out of range
    call, _ = compiled("selection")
    np.testing.assert_array_equal(call(build("selection", name), KEY, jnp.array([2.0]), 3), [0, 0, 0])


@pytest.mark.parametrize("name", ops.SURVIVALS)
def test_survivors_are_distinct_and_keep_the_best(name):
    for best in range(POPULATION):
        fitness = np.where(np.arange(POPULATION) == best, 9.0, np.nan_to_num(FITNESS)).astype(np.float32)
        found = compiled("survival")[0](build("survival", name), fitness, 3).tolist()
        assert len(set(found)) == 3 and best in found
    assert 1 not in compiled("survival")[0](build("survival", name), FITNESS, 3)


@pytest.mark.parametrize("name", ops.MUTATIONS)
def test_mutants_stay_on_the_image_and_keep_a_patch(name):
    mutants = drawn(build("mutation", name))
    on = mutants[..., 2] >= 0
    assert ((mutants[..., 0] >= 0) & (mutants[..., 0] < SHAPE[0]))[on].all()
    assert ((mutants[..., 1] >= 0) & (mutants[..., 1] < SHAPE[1]))[on].all()
    assert (mutants[..., 2] <= min(SHAPE) // 2).all() and on.any(1).all()


@pytest.mark.parametrize("name", ops.MUTATIONS)
def test_a_genome_with_nothing_switched_on_survives_mutation(name):
    off = jnp.full((GENES, 3), genes.OFF, jnp.int32)
    mutants = drawn(build("mutation", name), off)
    assert (mutants[..., 2] >= genes.OFF).all()
    if name not in ("replace", "add", "mixture"):  # the only ones that switch genes on
        np.testing.assert_array_equal(mutants, np.broadcast_to(off, mutants.shape))


@pytest.mark.parametrize("name", ops.CROSSOVERS)
def test_children_are_complements(name):
    crossover = build("crossover", name)
    children = np.asarray(_children(crossover, jax.random.split(KEY, DRAWS), GENOME, OTHER))
    a, b = np.asarray(GENOME), np.asarray(OTHER)
    from_a = (children[:, 0] == a).all(-1)
    from_b = (children[:, 0] == b).all(-1)
    assert (from_a | from_b).all()
    np.testing.assert_array_equal(children[:, 1], np.where(from_a[..., None], b, a))
    together = np.sort(children[..., 0] * 1000 + children[..., 1] * 50 + children[..., 2], axis=1)
    parents = np.stack([a, b])
    expected = np.sort(parents[..., 0] * 1000 + parents[..., 1] * 50 + parents[..., 2], axis=0)
    np.testing.assert_array_equal(together, np.broadcast_to(expected, together.shape))


@jax.jit
def _children(crossover, keys, a, b):
    return jax.vmap(lambda key: crossover(key, a, b))(keys)


# ------------------------------------------------------------------------------------------------------- selection


@pytest.mark.parametrize("size", [1, 2, 4])
def test_tournament_wins_as_often_as_it_should(size):
    """The individual of rank r from below wins with probability ((r + 1) / P)^size - (r / P)^size."""
    fitness = jnp.array([3.0, 0.0, 1.0, 5.0, 4.0, 2.0])
    place = np.asarray(fitness).astype(int)
    wins = ((place + 1) / POPULATION) ** size - (place / POPULATION) ** size
    assert_frequencies(select(ops.Tournament(size), fitness), wins)


@pytest.mark.parametrize("pressure", [1.0, 1.5, 2.0])
def test_rank_draws_the_best_pressure_times_as_often_as_the_average(pressure):
    fitness = jnp.array([30.0, -9.0, 1.0, 500.0, 40.0, 2.0])  # only the order counts
    place = np.array([3, 0, 1, 5, 4, 2])
    expected = (2 - pressure + 2 * (pressure - 1) * place / (POPULATION - 1)) / POPULATION
    assert expected.max() == pytest.approx(pressure / POPULATION) and expected.sum() == pytest.approx(1)
    assert_frequencies(select(ops.Rank(pressure), fitness), expected)


@pytest.mark.parametrize("fraction, kept", [(0.01, [3]), (0.5, [3, 4, 0]), (1.0, range(POPULATION))])
def test_truncation_is_uniform_among_the_best(fraction, kept):
    expected = np.zeros(POPULATION)
    expected[list(kept)] = 1 / len(kept)
    assert_frequencies(select(ops.Truncation(fraction), FITNESS), expected)


# ------------------------------------------------------------------------------------------------------- crossover


def exchanged(crossover):
    """bool[DRAWS, G]: which genes of the first child come from the second parent."""
    zeros, ones = jnp.zeros((GENES, 3), jnp.int32), jnp.ones((GENES, 3), jnp.int32)
    return np.asarray(_children(crossover, jax.random.split(KEY, DRAWS), zeros, ones))[:, 0, :, 0] == 1


def test_one_point_cuts_uniformly_and_always_mixes():
    found = exchanged(ops.OnePoint())
    assert (np.diff(found.astype(int), axis=1) >= 0).all()  # once exchanged, exchanged to the end
    assert_frequencies(np.bincount(GENES - found.sum(1), minlength=GENES), [0, *[1 / (GENES - 1)] * (GENES - 1)])


def test_two_point_exchanges_one_segment_between_uniform_cuts():
    found = exchanged(ops.TwoPoint())
    edges = np.diff(np.pad(found, ((0, 0), (1, 1))).astype(int), axis=1)
    assert ((edges == 1).sum(1) <= 1).all()
    # Two cuts among G + 1 places: (0, G) in two orders exchanges everything, equal cuts nothing.
    places = GENES + 1
    lengths = [places, *(2 * (places - length) for length in range(1, places))]
    assert_frequencies(np.bincount(found.sum(1), minlength=places), np.array(lengths) / places**2)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_uniform_exchanges_every_gene_at_its_rate(rate):
    found = exchanged(ops.Uniform(rate))
    for gene in range(GENES):
        assert_frequencies([found[:, gene].sum(), (~found[:, gene]).sum()], [rate, 1 - rate])
    centred = found - rate
    pairs = centred.T @ centred / len(found) * (1 - np.eye(GENES))
    assert (np.abs(pairs) <= 4 * rate * (1 - rate) / np.sqrt(len(found)) + 1e-12).all()  # independent of each other


def test_crossover_of_single_genes():
    a, b = GENOME[:1], OTHER[:1]
    for name in ops.CROSSOVERS:
        children = build("crossover", name)(KEY, a, b)
        assert sorted(children[:, 0].tolist()) == sorted([a[0].tolist(), b[0].tolist()])


# -------------------------------------------------------------------------------------------------------- mutation


def test_replace_changes_exactly_one_gene_each_equally_often():
    found = changed(drawn(ops.Replace(), FAR), FAR)
    assert (found.sum(1) == 1).all()
    assert_frequencies(found.sum(0), np.full(GENES, 1 / GENES))


def test_replace_draws_from_the_space():
    mutants = drawn(ops.Replace(), FAR, TWO_PIXELS)
    fresh = mutants[changed(mutants, FAR)].tolist()
    assert len(fresh) == DRAWS
    assert_frequencies([fresh.count(gene) for gene in FOUR], np.full(4, 0.25))


@pytest.mark.parametrize("reach", [0.0, 0.5, 1.0])
def test_the_number_of_changes_is_log_uniform_up_to_the_reach(reach):
    """k = floor((n + 1)^(reach * u)), so P(k <= j) = log(j + 1) / (reach * log(n + 1)) up to one."""
    sizes = changed(drawn(ops.Replace(reach), FAR), FAR).sum(1)
    below = [min(np.log(j + 1) / (reach * np.log(GENES + 1)), 1.0) if reach else float(j > 0) for j in range(GENES + 1)]
    assert_frequencies(np.bincount(sizes, minlength=GENES + 1), np.diff(below, prepend=0.0))


@pytest.mark.parametrize("operator", [ops.Move(), ops.Resize()], ids=repr)
def test_move_and_resize_change_one_patch_that_is_on(operator):
    found = changed(drawn(operator))
    assert not found[:, 2].any()  # switched off
    # A patch in the corner may be pushed against the border, where it cannot move.
    assert (found.sum(1) <= 1).all() and found.any(1).mean() > 0.8


@pytest.mark.parametrize("name", ["move", "resize"])
def test_reach_changes_several_at_once(name):
    inner = jnp.tile(jnp.array([[30, 25, 2]], jnp.int32), (GENES, 1))
    found = changed(drawn(type(build("mutation", name))(reach=1.0), inner), inner).sum(1)
    below = np.log(np.arange(1, GENES + 2)) / np.log(GENES + 1)
    assert_frequencies(np.bincount(found, minlength=GENES + 1), np.diff(below, prepend=0.0))


def test_move_goes_at_least_one_pixel_along_each_axis_and_keeps_the_size():
    scale = 0.4
    mutants = drawn(ops.Move(scale), alone(30, 25, 2))[:, 1]
    steps = mutants[:, :2] - np.array([30, 25])
    assert (mutants[:, 2] == 2).all() and (np.abs(steps).max(1) >= 1).all()
    vertical, horizontal = steps[:, 0] != 0, steps[:, 1] != 0
    kinds = [(vertical & ~horizontal).sum(), (~vertical & horizontal).sum(), (vertical & horizontal).sum()]
    assert_frequencies(kinds, np.full(3, 1 / 3))
    sizes, mean = np.abs(steps[vertical, 0]), scale * 5  # the side is five pixels
    assert_frequencies([(steps[vertical, 0] > 0).sum(), (steps[vertical, 0] < 0).sum()], [0.5, 0.5])
    assert_frequencies([(sizes > 3).sum(), (sizes <= 3).sum()], [np.exp(-3 / mean), 1 - np.exp(-3 / mean)])


def test_a_move_of_scale_zero_is_one_pixel():
    steps = drawn(ops.Move(0.0), alone(6, 5, 2))[:, 1, :2] - np.array([6, 5])
    assert set(map(tuple, steps.tolist())) == {(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)} - {(0, 0)}


def test_resize_keeps_one_corner_side_or_centre():
    row, col, radius = drawn(ops.Resize(0.1, 0.5), alone(30, 25, 10))[:, 1].T
    growth = radius - 10
    assert (growth != 0).all()
    for offset in (row - 30, col - 25):
        assert ((np.abs(offset) == np.abs(growth)) | (offset == 0)).all()
        held = [(offset == -growth).sum(), (offset == 0).sum(), (offset == growth).sum()]
        assert_frequencies(held, np.full(3, 1 / 3))


@pytest.mark.parametrize("growth", [0.0, 0.3, 1.0])
def test_resize_grows_as_often_as_asked(growth):
    radius = drawn(ops.Resize(0.1, growth), alone(30, 25, 10))[:, 1, 2]
    assert_frequencies([(radius > 10).sum(), (radius < 10).sum()], [growth, 1 - growth])


def test_resize_stops_at_half_the_image_and_switches_off_at_nothing():
    assert (drawn(ops.Resize(0.1, 0.0), alone(6, 5, 0))[..., 2] == genes.OFF).all()
    grown = drawn(ops.Resize(9.0, 1.0), alone(30, 25, 20))[:, 1, 2]
    assert grown.max() == min(SHAPE) // 2 and (grown == grown.max()).mean() > 0.9


def test_no_patch_shrinks_below_the_least_radius():
    floored = dataclasses.replace(EVERYWHERE, least=jnp.int32(4))
    radius = drawn(ops.Resize(0.3, 0.0), alone(30, 25, 10), floored)[:, 1, 2]
    free = drawn(ops.Resize(0.3, 0.0), alone(30, 25, 10))[:, 1, 2]
    np.testing.assert_array_equal(radius, np.where(free < 4, genes.OFF, free))
    assert (free < 4).any() and radius.max() < 10
    for whole, halved in ((9, True), (7, False)):  # in halves of 4, or of 3
        parts = drawn(ops.Split(), alone(20, 20, whole), floored)[..., 2]
        assert ((parts == whole // 2).sum(1) == 2 * halved).all()


def test_drop_switches_one_off_equally_often_but_never_the_last():
    mutants = drawn(ops.Drop())
    off = mutants[..., 2] < 0
    assert (off.sum(1) == 2).all() and off[:, 2].all()
    assert_frequencies(off.sum(0)[[0, 1, 3, 4]], np.full(4, 0.25))
    np.testing.assert_array_equal(mutants[..., :2], np.broadcast_to(GENOME[:, :2], (DRAWS, GENES, 2)))
    last = alone(4, 4, 2)
    np.testing.assert_array_equal(drawn(ops.Drop(), last), np.broadcast_to(last, (DRAWS, GENES, 3)))
    assert ((drawn(ops.Drop(1.0))[..., 2] >= 0).any(1)).all()


def test_add_switches_on_fresh_genes_and_leaves_the_others():
    mutants = drawn(ops.Add(), alone(4, 4, 2), TWO_PIXELS)
    on = mutants[..., 2] >= 0
    assert (on.sum(1) == 2).all() and on[:, 1].all()
    assert_frequencies(on.sum(0)[[0, 2, 3, 4]], np.full(4, 0.25))
    fresh = mutants[on & (np.arange(GENES) != 1)].tolist()
    assert_frequencies([fresh.count(gene) for gene in FOUR], np.full(4, 0.25))
    np.testing.assert_array_equal(drawn(ops.Add(), FAR), np.broadcast_to(FAR, (DRAWS, GENES, 3)))  # none is off


@pytest.mark.parametrize("radius", [2, 3, 4, 5])
def test_split_halves_the_patch_at_opposite_corners(radius):
    genome, half = alone(20, 20, radius), radius // 2
    whole = np.asarray(rasterize(genome, SHAPE))
    mutants = np.unique(drawn(ops.Split(), genome), axis=0)
    for mutant in mutants:
        assert mutant[mutant[:, 2] >= 0, 2].tolist() == [half, half]
        mask = np.asarray(rasterize(jnp.asarray(mutant), SHAPE))
        assert not (mask & ~whole).any()
        pixels = np.argwhere(mask)
        np.testing.assert_array_equal([pixels.min(0), pixels.max(0)], [[20 - radius] * 2, [20 + radius] * 2])
        # Two squares of half the size, which share the middle pixel where the radius is even.
        assert mask.sum() == 2 * (2 * half + 1) ** 2 - (radius % 2 == 0)
    assert len(mutants) == 2  # either diagonal


@pytest.mark.parametrize("genome", [FAR, alone(5, 5, 1)], ids=["no gene is free", "too small"])
def test_split_leaves_alone_what_it_cannot_split(genome):
    np.testing.assert_array_equal(drawn(ops.Split(), genome), np.broadcast_to(genome, (DRAWS, GENES, 3)))


def test_a_mixture_draws_by_weight_and_goes_on_as_often_as_asked():
    """Replace draws radius 1 or 3 in place of 9, drop switches off: told apart by their radii."""
    radius = drawn(ops.Mixture((ops.Replace(), ops.Drop()), (1.0, 3.0), 0.0), FAR)[..., 2]
    dropped = (radius < 0).any(1)
    assert (changed(radius[..., None], FAR[:, 2:]).sum(1) == 1).all()
    assert_frequencies([(~dropped).sum(), dropped.sum()], [0.25, 0.75])
    again = drawn(ops.Mixture((ops.Replace(), ops.Drop()), (0.0, 1.0), 0.3), FAR)[..., 2]
    assert set(again.ravel().tolist()) == {9, genes.OFF}  # a weight of zero is never drawn
    assert_frequencies([((again < 0).sum(1) == 1).sum(), ((again < 0).sum(1) == 2).sum()], [0.7, 0.3])


def test_a_mixture_needs_one_weight_per_mutation():
    with pytest.raises(InputError, match="2 mutations but 1 weights: give one each"):
        ops.Mixture((ops.Drop(), ops.Replace()), (1.0,))(KEY, GENOME, EVERYWHERE)


def test_a_mixture_shares_random_numbers_and_changes_no_bit():
    """Functions of one's own get the key itself, and so draw for themselves what the shipped mutations share."""
    shipped = (ops.Replace(1.0), ops.Move(), ops.Resize(), ops.Add(), ops.Drop(), ops.Split())
    own = tuple((lambda key, genome, space, mutation=mutation: mutation(key, genome, space)) for mutation in shipped)
    keys = jax.random.split(KEY, 200)
    shared, apart = (
        jax.vmap(lambda key, mix=ops.Mixture(mutations, (1.0,) * 6, 0.5): mix(key, GENOME, EVERYWHERE))(keys)
        for mutations in (shipped, own)
    )
    np.testing.assert_array_equal(shared, apart)
    assert len(np.unique(shared, axis=0)) > 100


# -------------------------------------------------------------------------------------------------------- survival


def test_elitism_is_the_children_and_the_best_parents():
    fitness = jnp.array([1.0, 5.0, 2.0, 0.0, 9.0, 3.0])  # three parents, three children
    assert ops.elitism(fitness, 3, elites=1).tolist() == [1, 4, 5]
    assert sorted(ops.elitism(fitness, 3, elites=0).tolist()) == [3, 4, 5]
    assert ops.elitism(fitness, 3, elites=2).tolist() == [1, 2, 4]


def test_plus_is_the_best_of_all():
    assert ops.plus(jnp.array([1.0, jnp.nan, 2.0, 0.0, 9.0, 3.0]), 4).tolist() == [4, 5, 2, 0]


# -------------------------------------------------------------------------------------------------------- founders


def founded(founding, shape, num, num_genes):
    """int32[num, num_genes, 3], and whether each pixel is kept by each founder."""
    everywhere = space(jnp.ones(shape, bool), jnp.array([1, 3]))
    call, _ = compiled("founders")
    founders = call(founding, KEY, TWO_PIXELS if shape == SHAPE else everywhere, num, num_genes, GENOME)
    return np.asarray(founders), np.asarray(rasterize(founders, shape))


def test_scattered_founders_are_independent_draws_of_the_space():
    found, _ = founded(ops.Scatter(), SHAPE, 400, 4)
    kinds = found[..., 0] * 10 + found[..., 2]
    assert_frequencies([(kinds == 10 * row + radius).sum() for row, _, radius in FOUR], np.full(4, 0.25))
    assert abs(np.corrcoef(kinds[:, 0], kinds[:, 1])[0, 1]) < 4 / np.sqrt(400)


@pytest.mark.parametrize("shape, num_genes", [((12, 10), 5), ((8, 8), 16), ((5, 30), 7), ((9, 9), 1)])
def test_the_first_tiled_founder_keeps_the_whole_image_and_a_share_of_zero_nothing(shape, num_genes):
    founders, masks = founded(ops.Tile(0.0), shape, 3, num_genes)
    assert founders.shape == (3, num_genes, 3)
    assert masks[0].all() and not masks[-1].any()


def test_founders_are_thinned_evenly():
    num, sparsest = 1001, 0.4
    founders, _ = founded(ops.Tile(sparsest), (8, 8), num, 16)
    kept = founders[..., 2] >= 0
    assert kept[0].all()
    for start in range(0, 1000, 250):
        shares = np.linspace(1, sparsest, num)[start : start + 250]
        sigma = np.sqrt((shares * (1 - shares)).sum() / 16) / 250
        assert abs(kept[start : start + 250].mean() - shares.mean()) <= 4 * sigma
    np.testing.assert_array_equal(founders[..., :2], np.broadcast_to(founders[0, :, :2], (num, 16, 2)))


@pytest.mark.parametrize("num_genes", [3, 6])
def test_inherited_founders_are_parts_of_the_champion(num_genes):
    founders, _ = founded(ops.Inherit(0.5), (8, 8), 30, num_genes)
    on = GENOME[np.array([0, 1, 3, 4])].tolist()[:num_genes]  # those that are on come first
    kept = [[gene for gene in founder if gene[2] >= 0] for founder in founders.tolist()]
    assert kept[0] == on
    assert all(gene in on for founder in kept for gene in founder)
    assert 0.5 < np.mean([len(founder) for founder in kept]) / len(on) < 1


def test_bracketing_founders_are_parts_of_the_champion_and_ever_larger_ones():
    founders, masks = founded(ops.Bracket(0.5, 0.5), (8, 8), 7, 5)
    thinned, _ = founded(ops.Inherit(0.5), (8, 8), 4, 5)
    np.testing.assert_array_equal(founders[:4], thinned)
    whole, grown = founders[0], founders[4:]
    on = whole[:, 2] >= 0
    np.testing.assert_array_equal(grown[..., :2], np.broadcast_to(whole[:, :2], (3, 5, 2)))
    np.testing.assert_array_equal(grown[:, on, 2] - whole[on, 2], [[1] * on.sum(), [2] * on.sum(), [4] * on.sum()])
    assert (grown[:, ~on, 2] == genes.OFF).all()
    assert masks[-1].all()


def test_elitism_without_enough_offspring_is_refused():
    with pytest.raises(InputError, match="keeps 1 of 4 parents and needs 3 offspring, but there are 2: give"):
        ops.elitism(jnp.arange(6.0), 4, elites=1)


def told(champion, evaluation, holds, everywhere):
    return scoring.Seen(champion, evaluation, jnp.array(holds), everywhere, None, None)


def test_what_breaks_a_constraint_scores_what_the_rule_says():
    everywhere = space(jnp.ones((2, 2), bool), jnp.array([1]))
    evaluation = Evaluation(*(jnp.float32(x) for x in (0.25, 0.5, -1.0, 0.0, 1.0, 0.0, 1.0)))
    pixel_twice = jnp.array([[0, 0, 0], [0, 0, 0]], jnp.int32)
    for infeasible in (-1.0, 0.0):
        for holds, expected in ((False, infeasible), (True, 0.5)):
            added = scoring.BestOfGeneration(infeasible)(told(pixel_twice, evaluation, holds, everywhere))
            assert added.tolist() == [[2 * expected, 0.0], [0.0, 0.0]]


def test_a_score_stays_inside_the_region():
    left = space(jnp.array([[True, False]]), jnp.array([1]))
    evaluation = Evaluation(*(jnp.float32(x) for x in (0.5, 0.5, 1.0, 0.0, -1.0, 0.0, 1.0)))
    added = scoring.BestOfGeneration()(told(jnp.array([[0, 0, 1]]), evaluation, True, left))
    assert added.tolist() == [[0.5, 0.0]]
