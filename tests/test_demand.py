"""What is demanded of a mask: the search, the race, the verdict and the words follow it, and a budget pays for more."""

import dataclasses

import jax
import numpy as np
import oracles
import pytest

import evomask
from evomask import InputError, fitness, operators, presets
from evomask.niches import several
from evomask.report import sheets
from evomask.report.reasons import reasons, status_sentence, status_word
from evomask.search.config import Config
from evomask.types import Status

KEY = jax.random.key(0)
SIDE = 12
BOXES = ((2, 2, 4, 2), (6, 8, 2, 4))
EITHER, BOTH = (oracles.BoxOracle(boxes=BOXES, rule=rule) for rule in ("any", "all"))  # either will do; both are needed
IMAGE = oracles.lit(BOXES, SIDE, SIDE, 1)[None]
CONFIG = Config(
    stages=(evomask.Stage("only", population=10, genes=4, radii=(1, 2), generations=40),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)


@pytest.fixture(scope="module")
def sufficient():
    return evomask.explain(EITHER, IMAGE, key=KEY, config=CONFIG.replace(demand="sufficient"))[0]


@pytest.fixture(scope="module")
def necessary():
    return evomask.explain(BOTH, IMAGE, key=KEY, config=CONFIG.replace(demand="necessary"))[0]


def test_a_sufficient_mask_is_what_was_demanded_and_no_failure(sufficient):
    assert sufficient.sufficient and not sufficient.necessary and not sufficient.complete
    assert (Status(int(sufficient.status)), sufficient.demand, bool(sufficient.met)) == (
        Status.SUFFICIENT,
        "sufficient",
        True,
    )
    assert reasons(sufficient) == () and status_word(sufficient) == "sufficient"
    assert status_sentence(sufficient).startswith("sufficient, as demanded")
    assert np.isnan(sufficient.history.confidence).sum() == 0 and sufficient.history.feasible[-1]
    record = sheets.numbers(sufficient)
    assert (record["demand"], record["status"], record["reasons"]) == ("sufficient", "sufficient", [])
    assert "black" in record["sufficient_under"] and "complete_under" not in record
    texts = " ".join(text.get_text() for text in sufficient.figure().texts).replace("\n", " ")
    assert "sufficient under" in texts and "complete" not in texts


def test_the_inverse_is_not_evaluated_and_a_budget_pays_for_more_generations(sufficient):
    assert sufficient.evaluations == CONFIG.evaluations / 2
    for preset in presets.PRESETS.values():
        complete, less = preset(2000), preset(2000, demand="sufficient")
        replaced = preset().replace(demand="sufficient", budget=2000)
        first, *rounds = [sum(stage.rounds for stage in config.stages) for config in (complete, less, replaced)]
        for config, more in zip((less, replaced), rounds, strict=True):
            last = config.stages[-1]
            assert 2000 - last.cycles * config.generation_cost(last) < config.evaluations <= 2000
            assert more > 1.25 * first
        assert less.replace(demand="complete").fitness == complete.fitness, "nothing of the fitness is lost"


def test_a_necessary_mask_leaves_the_rest_without_the_class(necessary):
    assert necessary.necessary and not necessary.sufficient
    assert (Status(int(necessary.status)), reasons(necessary)) == (Status.NECESSARY, ())
    gone = [(necessary.mask & oracles.box_mask(box, SIDE, SIDE)).sum() for box in BOXES]
    assert max(gone) >= 4 and necessary.area < 0.15, "half of one of two boxes"
    assert necessary.evaluations == CONFIG.evaluations and sheets.numbers(necessary)["status"] == "necessary"


def test_what_is_only_to_be_necessary_has_every_inverse_evaluated():
    few = CONFIG.replace(inverses=3)
    assert [few.replace(demand=demand).passes(few.stages[0]) for demand in ("complete", "sufficient", "necessary")] == [
        (10, 3),
        (10,),
        (20,),
    ]
    assert few.replace(demand="necessary").sought.stages[0].inverses is None


@pytest.mark.parametrize("demand", ["sufficient", "necessary"])
def test_masks_that_hold_are_searched_and_judged_for_what_is_demanded(demand):
    box = (4, 4, 4, 4)
    classifier, image = oracles.BoxOracle(boxes=(box,), batch_size=48), oracles.lit(box, SIDE, SIDE, 1)
    config = presets.evomask(2000, demand=demand).replace(genes=8)
    found = evomask.explain(classifier, image[None], key=KEY, labels=[1], config=config)
    assert found.precision.holds.tolist() == [True] and found.precision.demand == found.demand == demand
    assert found.met.tolist() == [True] and found.area[0] < 0.4
    assert found.evaluations[0] <= config.evaluations <= 2000
    again = evomask.precision(classifier, found[0], key=1, draws=40, apart=0)
    assert again.demand == demand


def test_a_fitness_without_a_constraint_that_fits_stays_as_it_is():
    kept = fitness.Fitness((fitness.Area(),), (1.0,), (fitness.KeepsClass(),))
    assert fitness.demanded(kept, "necessary") is kept and fitness.demanded(kept, "complete", 1.0) is kept
    free = fitness.Fitness((fitness.Confidence(),), (1.0,))
    assert fitness.demanded(free, "sufficient") is free
    softened = fitness.demanded(fitness.published(), "necessary", 0.1)
    assert softened.constraints == (fitness.LosesClass(),) and softened.weights == (1.0, 0.1)


def test_several_masks_take_the_demand_of_the_configuration_or_their_own():
    found = several(BOTH, IMAGE, 2, key=KEY, config=CONFIG, demand="necessary", disjoint=True)
    assert found.demanded == ("necessary", "necessary")
    first, second = found.explanations
    assert first.met.all() and second.met.all() and not (first.mask & second.mask).any(), "either box is necessary"
    own = several(BOTH, IMAGE, 1, key=KEY, config=CONFIG.replace(demand="necessary"))
    jax.tree.map(np.testing.assert_array_equal, own.explanations[0], first)


def test_a_certificate_is_about_what_was_demanded(sufficient):
    batch = jax.tree.map(lambda field: np.asarray(field)[None], sufficient)
    smaller, certificate = evomask.make_minimal(EITHER, IMAGE, batch, key=KEY, config=CONFIG, budget=2000)
    assert certificate.minimal[0] and smaller.status[0] == Status.SUFFICIENT and smaller.mask.sum() <= batch.mask.sum()
    words = evomask.certificate.sentence(certificate_of(certificate), True, "sufficient")
    assert words.startswith("1-minimal") and "inverse" not in words


def certificate_of(batch):
    return jax.tree.map(lambda field: field[0], batch)


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"demand": "small"}, "demand is 'small': give one of complete, sufficient, necessary"),
        ({"demand": "sufficient", "wish": -1.0}, "wish is -1.0: give a fraction of the image from 0"),
    ],
)
def test_bad_input(parts, message):
    with pytest.raises(InputError, match=message):
        evomask.explain(EITHER, IMAGE, key=KEY, config=CONFIG.replace(**parts))


def test_a_class_that_is_not_there_cannot_be_lost():
    with pytest.raises(InputError, match="image 0 is predicted as class 1, so no mask is necessary for class 0: give"):
        evomask.explain(EITHER, IMAGE, key=KEY, labels=[0], config=CONFIG.replace(demand="necessary"))
    blank = dataclasses.replace(EITHER, threshold=-0.1)
    found = evomask.explain(blank, IMAGE, key=KEY, config=CONFIG.replace(demand="sufficient"))
    assert found.status[0] == Status.BLANK_CLASS, "to keep what the blank image has is no feat"
