"""Masks seen as they will be judged: each in a showing of its own, drawn from a bank whose whole pictures are known.

What a mask keeps is compared with the whole picture *in the same showing*. So the whole picture has to be seen in each;
a bank of showings, whose whole pictures are seen once, makes that nearly free. It says as well whether the decision
holds. Where it does not, a mask that failed in a showing in which the whole picture itself loses the class would not be
to blame, and would only grow: masks are then seen in the other showings alone, in which something is to be explained.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from evomask import fills
from evomask.measures.certainty import least_that_holds
from evomask.perturbations import Perturbations, Showing, move
from evomask.search.batching import in_batches
from evomask.search.evaluate import Hopeful, batches, log_prob_and_margin, with_inverses
from evomask.search.genome import area, boundary
from evomask.search.surrogate import log_odds
from evomask.types import Array, Classifier, Evaluation, Key, Mask, Target, record

BANK = int.from_bytes(b"bank", "big")  # the stream of keys that nothing else draws from; cycles fold in small numbers


@record
class Bank:
    """Showings of one picture, M of them, and what the classifier says of the whole picture in each."""

    showing: Showing  # fields [M, ...]; blanks f32[M, F, H, W, C]
    confidence: Array  # f32[M], of the label
    numbers: Array  # int32[M], of the showings, those that masks are seen in first
    num: Array  # int32[], how many these are
    breaks: Array  # bool[], whether the decision does not hold, so that they are not all


def fill_bank(
    key: Key,
    classifier: Classifier,
    target: Target,
    blanks: Array,
    perturbations: Perturbations,
    *,
    size: int,
    batch_size: int,
    counterfactual: Array | bool = False,
    axis: str | None = None,
) -> Bank:
    """`size` showings of a picture whose own blanks are f32[F, H, W, C]; it costs as many evaluations.

    A counterfactual question asks about no decision that could break: it takes every showing.
    """
    keys = jax.random.split(jax.random.fold_in(key, BANK), size)
    under = jax.vmap(perturbations, (None, None, 0))  # every fill in the same showing
    shown = jax.vmap(under, (0, None, None))(keys, target.image, blanks)
    showing = Showing(shown.image[:, 0], shown.blank, shown.shift[:, 0])
    look = lambda images: log_prob_and_margin(classifier(images), target.label, target.contrast)
    log_prob, margin = in_batches(look, showing.image, batches(size, batch_size)[1], axis)
    kept = margin > 0
    num = kept.sum(dtype=jnp.int32)
    breaks = (num < least_that_holds(size)) & (num > 0) & jnp.logical_not(counterfactual)
    numbers = jnp.argsort(breaks & ~kept, stable=True).astype(jnp.int32)
    return Bank(showing, jnp.exp(log_prob), numbers, jnp.where(breaks, num, size), breaks)


def evaluate_shown(
    key: Key,
    classifier: Classifier,
    target: Target,
    bank: Bank,
    masks: Mask,
    *,
    inverse: bool,
    batch_size: int,
    hopeful: Hopeful | None = None,
    axis: str | None = None,
) -> Evaluation:
    """`evaluate.evaluate_fills`, where each of the masks bool[P, H, W] is seen in one showing, drawn for it.

    A confidence is reported as far from the one that would be enough, in log-odds, as it is in its showing: a picture
    that is shown darker may lose as much as the whole one does. Of several fills the worst counts; an inverse is seen
    in the showing of its mask.
    """
    num, later = len(masks), inverse and hopeful is not None
    drawn = bank.numbers[jax.random.randint(key, (num,), 0, bank.num)]
    look = functools.partial(answers, classifier, target, bank, batch_size, axis)
    both = inverse and not later
    log_prob, margin = look(jnp.concatenate([masks, ~masks]) if both else masks, jnp.tile(drawn, 1 + both))
    as_enough = log_odds(target.ratio * target.confidence) - log_odds(target.ratio * bank.confidence[drawn])
    missing = jnp.full(num, jnp.nan)
    seen = Evaluation(
        area=area(masks),
        confidence=jax.nn.sigmoid(log_odds(jnp.exp(log_prob[:, :num].min(0))) + as_enough),
        margin=margin[:, :num].min(0),
        inverse_confidence=jnp.exp(log_prob[:, num:].max(0)) if both else missing,
        inverse_margin=margin[:, num:].max(0) if both else missing,
        distance=missing,
        boundary=boundary(masks),
    )
    if not later:
        return seen
    chosen = jax.lax.top_k(hopeful.rank(seen), hopeful.num)[1]  # pyright: ignore[reportOptionalMemberAccess]
    log_prob, margin = look(~masks[chosen], drawn[chosen])
    return with_inverses(seen, chosen, jnp.exp(log_prob.max(0)), margin.max(0))


def answers(
    classifier: Classifier,
    target: Target,
    bank: Bank,
    batch_size: int,
    axis: str | None,
    masks: Mask,
    drawn: Array,
) -> tuple[Array, Array]:
    """Log-probability and margin of masks bool[P, H, W] in the showings int32[P], under every fill: f32[F, P] each."""

    def under(fill: Array) -> tuple[Array, Array]:
        def picture(mask: Mask, number: Array) -> Array:
            image, blank, shift = (field[number] for field in vars(bank.showing).values())
            return fills.apply(move(mask[None], shift), image, blank[fill])[0]

        look = lambda asked: log_prob_and_margin(classifier(jax.vmap(picture)(*asked)), target.label, target.contrast)
        return in_batches(look, (masks, drawn), batches(len(masks), batch_size)[1], axis)

    return jax.lax.map(under, jnp.arange(bank.showing.blank.shape[1]))
