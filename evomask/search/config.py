"""The configuration of `explain`: one record of stages, operators, fitness, fill and scoring."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

from evomask import fills
from evomask.fills import Fill
from evomask.perturbations import Perturbations
from evomask.search import batching, scoring
from evomask.search.checks import Plain
from evomask.search.evolve import Operators
from evomask.search.fitness import Fitness, demanded
from evomask.search.front import Collect
from evomask.search.scoring import Seen
from evomask.search.stages import Stage, check_stages
from evomask.types import RATIO, SLACK, Classifier, InputError, record, set_tuples, static, whole

# Options that only the host reads: no program depends on them.
HOST_ONLY = "score_inside_only", "windows", "rehearsals", "race", "finalists", "draws", "draws_apart"


@record
class Config:
    """Everything that decides what `explain` does, besides the classifier, the images and the key.

    Floats are leaves: changing them does not compile again. See `evomask.presets` for the recipes.
    """

    stages: tuple[Stage, ...]
    operators: Operators
    fitness: Fitness
    fill: Fill | tuple[Fill, ...] = fills.Constant()  # several: a mask must hold under each of them
    scoring: Callable[[Seen], Any] = scoring.BestOfGeneration()
    demand: str = static(default="complete")  # what is asked of a mask: complete, sufficient or necessary; see `sought`
    wish: float = static(default=0.0)  # area that a nat towards what is not demanded is worth, as a fraction
    perturbation: Perturbations | None = None  # how the picture is shown, drawn anew for every mask; None: as it is
    slack: float = SLACK  # nats by which the class must be kept and lost
    confidence_ratio: float = RATIO  # of the whole image's confidence, that a sufficient mask keeps
    front: Collect | None = None  # collects the area-confidence front; None: no
    film: bool = static(default=False)  # keeps the best mask of every generation
    score_inside_only: bool = static(default=False)  # see `scoring.normalize`
    windows: int = static(default=0)  # most along each side, see `evomask.windows`; less than 4: none
    showings: int = static(default=64)  # whole pictures that are seen once, for the search to draw from
    rehearsals: int = static(default=64)  # showings in which a mask is tried before it is chosen, see `racing`
    race: int = static(default=800)  # evaluations for these, of all masks tried
    finalists: int = static(default=2)  # masks that may be judged, where the first of them does not hold
    draws: int = static(default=200)  # showings that judge the mask in the end, see `holding`
    draws_apart: int = static(default=64)  # as many for each perturbation by itself
    batch_size: int | None = static(
        default=None
    )  # images in one call of the classifier; None: what the classifier prefers
    together: int = static(default=1)  # images explained whose searches run side by side, as one batch; see `explain`

    def __post_init__(self):
        set_tuples(self, ("stages", "fill"))
        for name in ("stages", "operators", "fitness", "fill", "scoring", "front"):
            object.__setattr__(self, name, Plain.in_place_of_functions(getattr(self, name)))

    def replace(self, *, budget: int | None = None, **parts: Any) -> Config:
        """The same configuration with other parts, by name, and at last with another budget.

        A part is a field of the configuration (`fill`, `fitness`, `scoring`, `front`, `batch_size` ...), an operator
        (`selection`, `crossover`, `mutation`, `survival`, `screening`), or a field of a stage (`genes`, `founders`,
        `penalty` ...), which every stage then gets.

        Args:
          budget: the most evaluations for each image, see `with_budget`; None: the generations stay as they are, so
            that a part that costs more (a second fill) makes the search cost more.
          **parts: what to exchange.

        Raises:
          InputError: there is no part of that name, or the budget is too small.

        >>> from evomask import fills, presets
        >>> several = fills.Constant(0.0), fills.Mean(), fills.Blur()
        >>> three = presets.smallest().replace(fill=several, genes=8, budget=2000)
        >>> three.evaluations <= 2000, {stage.genes for stage in three.stages}
        (True, {8})

        Where no mask has to be necessary, no inverse is evaluated, and a budget pays for more generations:

        >>> complete, sufficient = presets.smallest(), presets.smallest().replace(demand="sufficient", budget=2000)
        >>> [sum(stage.rounds for stage in config.stages) for config in (complete, sufficient)]
        [83, 125]
        """
        mine, operators, stage = (
            {field.name for field in dataclasses.fields(kind)} - {"name"} for kind in (Config, Operators, Stage)
        )
        for name in parts.keys() - mine - operators - stage:
            near = difflib.get_close_matches(name, sorted(mine | operators | stage), 1)
            known = f"did you mean {near[0]}?" if near else f"give one of {', '.join(sorted(mine | operators | stage))}"
            raise InputError(f"a configuration has no part {name!r}: {known}")
        given = lambda names: {name: value for name, value in parts.items() if name in names}
        changed = dataclasses.replace(self, **given(mine))
        stages = tuple(dataclasses.replace(one, **given(stage - mine)) for one in changed.stages)
        operators = dataclasses.replace(changed.operators, **given(operators - mine))
        changed = dataclasses.replace(changed, stages=stages, operators=operators)
        return changed if budget is None else with_budget(changed, budget)

    @property
    def sought(self) -> Config:
        """The configuration as the search takes it: of the fitness and the stages, what belongs to what is demanded.

        See `fitness.demanded`. Where only the inverse has to lose the class, the masked image does not tell which
        inverses are worth a look, so all of them are evaluated.
        """
        if self.demand == "complete":
            return self
        stages = tuple(dataclasses.replace(stage, inverses=self._inverses(stage)) for stage in self.stages)
        return dataclasses.replace(self, stages=stages, fitness=demanded(self.fitness, self.demand, self.wish))

    @property
    def compiled(self) -> Config:
        """What the compiled programs of a search depend on: where two configurations agree in it they share them."""
        return dataclasses.replace(self.sought, stages=(), fill=(), together=1, **dict.fromkeys(HOST_ONLY, 0))

    def _inverses(self, stage: Stage) -> int | None:
        return None if self.demand == "necessary" else stage.inverses

    @property
    def evaluations(self) -> int:
        """Images that the search sends through the classifier at most, for each image explained."""
        return self.fixed_cost + self.evolving

    @property
    def evolving(self) -> int:
        """Those of them that the generations send, where no stage stops early."""
        return sum(stage.rounds * self.generation_cost(stage) for stage in self.stages)

    @property
    def first_cost(self) -> int:
        """Evaluations before the first generation: the whole picture in every showing of the bank."""
        return 0 if self.perturbation is None else self.showings

    @property
    def fixed_cost(self) -> int:
        """Evaluations of the search that are not those of a generation, `race` at most included."""
        return 0 if self.perturbation is None else self.showings + self.race

    def generation_cost(self, stage: Stage) -> int:
        """Evaluations of one generation of a stage."""
        return len(self.fills) * sum(self.passes(stage))

    def passes(self, stage: Stage) -> tuple[int, ...]:
        """Images in each forward pass of one generation, under each fill: masks and inverses, together or in turn."""
        stage = dataclasses.replace(stage, inverses=self._inverses(stage))
        inverses = stage.num_inverses if self.sought.fitness.needs_inverse else 0
        in_turn = inverses and stage.inverses is not None
        return (stage.num_offspring, inverses) if in_turn else (stage.num_offspring + inverses,)

    @property
    def fills(self) -> tuple[Fill, ...]:
        """The one fill, or the several."""
        return self.fill if isinstance(self.fill, tuple) else (self.fill,)

    def needs(self, classifier: Classifier) -> dict[str, Any]:
        """What `evaluate` has to be told: whether to look at inverses and at features, and the batch size."""
        fitness = self.sought.fitness
        return {
            "inverse": fitness.needs_inverse,
            "features": fitness.needs_features,
            "batch_size": self.batch_size_for(classifier),
        }

    def batch_size_for(self, classifier: Classifier) -> int:
        """The most images in one call of the classifier."""
        return self.batch_size or batching.batch_size(classifier)


def with_budget(config: Config, budget: int) -> Config:
    """The same configuration with its generations scaled, stage by stage in proportion, to spend at most `budget`.

    No cycle gets more generations than the stage's `longest`: the first stage, which could only begin from nothing
    again, ends there, and the others run in several equal cycles instead. The last stage gets all that is left.

    Raises:
      InputError: the budget does not pay for the founders and one generation of every stage.

    >>> from evomask.presets import smallest
    >>> with_budget(smallest(), 960).evaluations
    960
    >>> [(stage.cycles, stage.generations) for stage in smallest(8000).stages]
    [(1, 60), (3, 42), (3, 46)]
    """
    check_stages(config.stages)
    budget = whole("budget", budget)
    prices = [config.generation_cost(stage) for stage in config.stages]
    race = config.race * budget // config.evaluations
    if config.perturbation is not None:  # what little a small budget leaves
        race = max(1, min(race, budget - config.first_cost - 2 * sum(prices)))
    config = dataclasses.replace(config, race=race)
    least = 2 * sum(prices) + config.fixed_cost
    if budget < least:
        raise InputError(
            f"budget {budget} is less than one generation of every stage and its founders, {least}: give more"
        )
    budget -= config.fixed_cost
    share, left, stages = budget / config.evolving, budget, []
    for index, (stage, price) in enumerate(zip(config.stages, prices)):
        later = 2 * sum(prices[index + 1 :])
        wanted = min(share * price * stage.rounds, left - later) if later else left
        is_capped = stage.longest is not None and index == 0 and later > 0
        stage = _with_rounds(stage, max(int(wanted // price), 2), is_capped)
        left -= stage.rounds * price
        stages.append(stage)
    return dataclasses.replace(config, stages=tuple(stages))


def _with_rounds(stage: Stage, rounds: int, is_capped: bool) -> Stage:
    """The stage with at most so many `rounds`, in cycles that are no longer than `longest` or, `is_capped`, as many as
    it has.
    """
    cycles = min(stage.cycles, rounds // 2)
    if stage.longest is not None:
        most = stage.longest + 1
        rounds = min(rounds, cycles * most) if is_capped else rounds
        cycles = max(cycles, -(-rounds // most))
    return dataclasses.replace(stage, generations=rounds // cycles - 1, cycles=cycles)
