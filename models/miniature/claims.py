"""The paper's orderings, each as two sets of pictures to compare, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgefusion.models.miniature.comparison import (
    Difference,
    paired_difference,
    resampled_difference,
)
from edgefusion.models.miniature.evaluation import Judgement
from edgefusion.models.miniature.names import (
    ADVANCED,
    BASE,
    BY_BASE,
    BY_ITSELF,
    EDGEFUSION,
    FP32,
    NPU,
    TINY,
    UNTUNED,
    few,
    tuned,
)
from edgefusion.models.miniature.presets import Preset
from edgefusion.models.miniature.repetition import BEST_DISTILLING, BEST_TEACHING, Judgements
from edgefusion.models.miniature.stages import CLEANED, CURATED, RAW, RECAPTIONED, SYNTHETIC

Verdict = Literal["held", "not shown", "failed"]
Pictures = tuple[str, int]
"""Of which network, in how many steps."""
DEPLOYED_STEPS = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """``first`` is better than ``second``; with ``margin``, they differ by no more than that.

    ``by_distance``: the paper's FID says so too. Its Table 2 says the opposite wherever pictures
    are synthetic, which the paper lays to COCO, the reference.
    """

    text: str
    source: str
    first: Pictures
    second: Pictures
    margin: float | None = None
    by_distance: bool = False

    def verdict(self, difference: Difference) -> Verdict:
        """By the difference's 95 % interval."""
        if self.margin is None:
            if difference.low > 0:
                return "held"
            return "failed" if difference.high < 0 else "not shown"
        if -self.margin <= difference.low and difference.high <= self.margin:
            return "held"
        apart = difference.low > self.margin or difference.high < -self.margin
        return "failed" if apart else "not shown"


def claims(preset: Preset) -> tuple[Claim, ...]:
    """Those that the preset's networks can test."""
    many = preset.many_steps
    found = [Claim("the advanced teacher is better", "Table 9", (ADVANCED, many), (BASE, many))]
    adv_tiny = tuned(CURATED)
    found.append(
        Claim("Adv-Tiny is better than Tiny", "Tables 2, 4", (adv_tiny, many), (TINY, many))
    )
    common = [
        (CLEANED, RAW),
        (RECAPTIONED, CLEANED),
        (RECAPTIONED, RAW),
        (BEST_DISTILLING, RECAPTIONED),
        (BEST_DISTILLING, BEST_TEACHING),
    ]
    # The paper: tuning favours quality, distilling to few steps quantity.
    for named, source, steps, pairs in (
        (tuned, "Table 2", (many,), [*common, (CURATED, SYNTHETIC)]),
        (few, "Tables 3, 11", (4, 2), [*common, (SYNTHETIC, CURATED)]),
    ):
        found += [
            Claim(
                f"{better} is better than {worse}",
                source,
                (named(better), n),
                (named(worse), n),
                by_distance=named is few,
            )
            for better, worse in pairs
            for n in steps
        ]
    for other, text in (
        (UNTUNED, "tuning the student first helps"),
        (few(RAW), "improved data help"),
    ):
        found += [
            Claim(text, "Tables 3, 4, 11", (EDGEFUSION, n), (other, n), by_distance=True)
            for n in (4, 2)
        ]
    for other, text in (
        (BY_ITSELF, "the large teacher distils better than the student itself"),
        (BY_BASE, "the advanced teacher distils better than the base teacher"),
    ):
        found += [Claim(text, "section 2.1", (EDGEFUSION, n), (other, n)) for n in (4, 2)]
    found += [
        Claim("2 steps are better than 1", "Figs. 5, 6", (EDGEFUSION, 2), (EDGEFUSION, 1)),
        Claim("4 steps are close to 2", "Tables 3, 11", (EDGEFUSION, 4), (EDGEFUSION, 2), 0.05),
        Claim(f"2 steps are close to {many}", "section 2", (EDGEFUSION, 2), (adv_tiny, many), 0.05),
        Claim("W8A16 loses nothing", "Fig. 3", (NPU, DEPLOYED_STEPS), (FP32, DEPLOYED_STEPS), 0.02),
    ]
    return tuple(found)


def tested(claim: Claim, repetitions: Sequence[Judgements]) -> dict[str, Any] | None:
    """A row of the report; None where a side was not drawn."""
    sides = _sides(claim, repetitions)
    if sides is None:
        return None
    first, second = ([list(judgement.scores) for judgement in side] for side in sides)
    difference = paired_difference(first, second)
    means = float(np.mean(first)), float(np.mean(second))
    return _row(claim, means, difference, claim.verdict(difference))


def tested_by_distance(claim: Claim, repetitions: Sequence[Judgements]) -> dict[str, Any] | None:
    """The same by Fréchet distance, of which less is better; None also for claims that are not of
    distances."""
    sides = _sides(claim, repetitions)
    if sides is None or not claim.by_distance:
        return None
    first, second = ([list(judgement.distances) for judgement in side] for side in sides)
    difference = resampled_difference(first, second)
    means = float(np.mean(first, 0)[0]), float(np.mean(second, 0)[0])
    return _row(claim, means, difference, claim.verdict(difference.negated()))


def _sides(claim: Claim, repetitions: Sequence[Judgements]) -> list[list[Judgement]] | None:
    sides = [
        [
            judged[network][str(steps)]
            for judged in repetitions
            if str(steps) in judged.get(network, {})
        ]
        for network, steps in (claim.first, claim.second)
    ]
    return sides if all(len(side) == len(repetitions) for side in sides) else None


def _row(
    claim: Claim, means: tuple[float, float], difference: Difference, verdict: Verdict
) -> dict[str, Any]:
    return {
        "claim": claim.text,
        "source": claim.source,
        "first": _name(claim.first),
        "second": _name(claim.second),
        "first_score": means[0],
        "second_score": means[1],
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "share_above": difference.share_above,
        "margin": claim.margin,
        "verdict": verdict,
    }


def _name(pictures: Pictures) -> str:
    return f"{pictures[0]}, {pictures[1]} step{'s' if pictures[1] > 1 else ''}"


def score_rows(repetitions: Sequence[Judgements]) -> list[dict[str, Any]]:
    """Means of each network at each number of steps, and of each repetition."""
    rows = []
    for network, by_steps in repetitions[0].items():
        for steps in by_steps:
            each = [judged[network][steps] for judged in repetitions]
            means = [float(np.mean(judgement.scores)) for judgement in each]
            apart = [judgement.distances[0] for judgement in each]
            rows.append(
                {
                    "network": network,
                    "steps": int(steps),
                    "mean": float(np.mean(means)),
                    "std": float(np.std(means, ddof=1)) if len(means) > 1 else None,
                    "repetitions": means,
                    "distance": float(np.mean(apart)),
                    "distances": apart,
                }
            )
    return rows
