"""Is the build as good as its reference? Paired tests on the same samples, and the number of samples that would tell.

`lost` counts samples the reference gets right and the build wrong, `gained` the opposite; both come from `samples`
pairs. Shares are in [0, 1] in the first half of the file and percentage points in `non_inferiority` and
`agreement_with_reference`, which is what people read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgevit.errors import InputError
from edgevit.statistics import normal_quantile, wilson_interval
from edgevit.types import Interval, Value, Verdict

MOST_SAMPLES = 10_000_000
"""No evaluation set is larger; a verdict that would need more has no practical number of samples."""


class Margin(Value, frozen=True, kw_only=True):
    """How much a build may lose, and how sure one must be."""

    points: float = 0.5
    """Percentage points; more than this lost is out of budget."""
    alpha: float = 0.05
    """One-sided error of calling a build that loses `points` passed."""


class Decision(Value, frozen=True, kw_only=True):
    """A verdict on a paired difference; the figures are percentage points."""

    verdict: Verdict
    difference: float
    """Build minus reference."""
    interval: Interval
    """Two-sided at level 1 - 2 alpha: its lower end is the one-sided bound at 1 - alpha that the verdict uses."""
    p: float = 1.0
    """Exact two-sided McNemar test of lost against gained; 1 where it does not apply."""
    samples_needed: int | None = None
    """For `inconclusive`: how many samples would decide at the rates seen; None where none in practice would."""


def mcnemar_p(lost: int, gained: int) -> float:
    """Exact two-sided McNemar test: 2 P(X <= min(lost, gained)), X ~ Binomial(lost + gained, 1/2), at most 1.

    McNemar 1947 (Psychometrika 12:153), in its exact form. The largest term is taken through lgamma and the others
    follow by their ratios, all below 1, so millions of discordant pairs neither overflow nor take long.
    """
    if lost < 0 or gained < 0:
        raise InputError(f"expected counts of at least 0, found lost {lost} and gained {gained}")
    pairs, fewer = lost + gained, min(lost, gained)
    if 2 * fewer == pairs:
        return 1.0
    log_term = math.lgamma(pairs + 1) - math.lgamma(fewer + 1) - math.lgamma(pairs - fewer + 1) - pairs * math.log(2.0)
    total = term = 1.0
    for k in range(fewer, 0, -1):
        term *= k / (pairs - k + 1)
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, 2.0 * math.exp(log_term) * total)


def paired_difference_interval(lost: float, gained: float, samples: float, *, level: float = 0.95) -> Interval:
    """Tango's score interval of (gained - lost) / samples, two-sided, as shares in [-1, 1].

    Tango 1998 (Statistics in Medicine 17:891): the d for which the score statistic
    (gained - lost - n d) / sqrt(n (2 q + d (1 - d))) is within +-z, where q is the maximum-likelihood estimate of the
    lost share under d. It keeps its coverage for small counts and has a width where nothing is discordant: the bounds
    are then +-z² / (n + z²). Counts may be fractions, which is what planning with expected counts needs.
    """
    if min(lost, gained) < 0 or samples <= 0 or lost + gained > samples * (1.0 + 1e-12):
        raise InputError(f"expected lost + gained within the samples, found {lost} + {gained} of {samples}")
    z = normal_quantile((1.0 + level) / 2.0)
    low = _tango_lower(lost, gained, samples, z)
    high = -_tango_lower(gained, lost, samples, z)
    return Interval(low=low, high=high, level=level)


def _tango_lower(lost: float, gained: float, samples: float, z: float) -> float:
    """The smallest difference not rejected; the upper bound is the same with the two sides exchanged."""

    def rejected(difference: float) -> bool:
        excess = gained - lost - samples * difference
        variance = samples * (2.0 * _lost_share(lost, gained, samples, difference) + difference * (1.0 - difference))
        return excess > z * math.sqrt(max(0.0, variance))

    below, above = -1.0, (gained - lost) / samples
    for _ in range(60):
        middle = (below + above) / 2.0
        below, above = (middle, above) if rejected(middle) else (below, middle)
    return below


def _lost_share(lost: float, gained: float, samples: float, difference: float) -> float:
    """Maximum-likelihood share of lost samples when gained share - lost share = difference (Tango's q21)."""
    a = 2.0 * samples
    b = -lost - gained + (2.0 * samples - gained + lost) * difference
    c = -lost * difference * (1.0 - difference)
    root = math.sqrt(max(0.0, b * b - 4.0 * a * c))
    # Written so that the two terms never cancel: with few discordant pairs b is thousands of times larger than q.
    share = (root - b) / (2.0 * a) if b <= 0.0 else -2.0 * c / (root + b)
    return min(1.0, max(0.0, share))


def non_inferiority(lost: int, gained: int, samples: int, margin: Margin | None = None) -> Decision:
    """Whether the build's accuracy is at most `margin.points` below the reference's on the same samples.

    With d the observed difference, [low, high] Tango's interval at level 1 - 2 alpha and m the margin:

    - passed: low > -m. A build that truly loses m or more passes with probability about alpha at most.
    - failed: high < -m, the loss is beyond the margin even at its most favourable; or d < -m and the exact two-sided
      McNemar test has p < alpha: the best estimate is out of budget and the loss itself is no accident. The second
      half is deliberately stricter than a test of "worse than m". Without it a proven loss whose best estimate is out
      of budget would not fail, only because it is not yet proven to exceed m; the burden of proof is the build's.
      Its price, with 2,000 samples of which 1 % are discordant: a build as good as the reference fails in 1 % of
      sets, one that truly loses 0.3 points in 15 %.
    - inconclusive otherwise, with the number of samples at which the same rates of lost and gained would decide.

    d < -m is never passed (low <= d), however few the samples. With nothing lost and nothing gained, the default
    margin of 0.5 points needs 539 samples; 900 samples with nothing discordant give low = -0.30 points.
    """
    margin = checked(margin or Margin(), samples)
    limit = margin.points / 100.0
    level = 1.0 - 2.0 * margin.alpha

    def verdict(scale: float) -> Verdict:
        interval = paired_difference_interval(lost * scale, gained * scale, samples * scale, level=level)
        if interval.low > -limit:
            return "passed"
        if interval.high < -limit:
            return "failed"
        # Exact tests take whole counts; rounding matters only for the forecast, where scale is not 1.
        significant = mcnemar_p(round(lost * scale), round(gained * scale)) < margin.alpha
        return "failed" if significant and (gained - lost) / samples < -limit else "inconclusive"

    interval = paired_difference_interval(lost, gained, samples, level=level)
    decided = verdict(1.0)
    return Decision(
        verdict=decided,
        difference=100.0 * (gained - lost) / samples,
        interval=Interval(low=100.0 * interval.low, high=100.0 * interval.high, level=level),
        p=mcnemar_p(lost, gained),
        samples_needed=_fewest_samples(samples, verdict) if decided == "inconclusive" else None,
    )


def agreement_with_reference(disagreements: int, samples: int, margin: Margin | None = None) -> Decision:
    """The same question without labels: at most `margin.points` of the samples may get another label.

    The reference's labels stand in for the truth, so nothing can be gained, and every disagreement counts as lost: an
    upper bound on the accuracy that can be lost. The interval is Wilson's; McNemar's test does not apply, because a
    difference that can go one way only is significant by construction.
    """
    margin = checked(margin or Margin(), samples)
    limit = margin.points / 100.0
    level = 1.0 - 2.0 * margin.alpha

    def verdict(scale: float) -> Verdict:
        loss = wilson_interval(disagreements * scale, samples * scale, level=level)
        return "passed" if loss.high < limit else "failed" if loss.low > limit else "inconclusive"

    loss = wilson_interval(disagreements, samples, level=level)
    decided = verdict(1.0)
    return Decision(
        verdict=decided,
        difference=0.0 - 100.0 * disagreements / samples,
        interval=Interval(low=0.0 - 100.0 * loss.high, high=0.0 - 100.0 * loss.low, level=level),
        samples_needed=_fewest_samples(samples, verdict) if decided == "inconclusive" else None,
    )


def checked(margin: Margin, samples: int) -> Margin:
    """The margin; InputError for one that makes no sense, and for no samples."""
    if samples < 1:
        raise InputError(f"expected at least one evaluation sample, found {samples}")
    if not 0.0 < margin.points < 100.0 or not 0.0 < margin.alpha < 0.5:
        raise InputError(f"expected a margin in (0, 100) points and alpha in (0, 0.5), found {margin}")
    return margin


def _fewest_samples(samples: int, verdict: Callable[[float], Verdict]) -> int | None:
    """The fewest samples above `samples` at which the observed rates decide, by doubling and bisection."""
    low = high = samples
    while verdict(high / samples) == "inconclusive":
        if high >= MOST_SAMPLES:
            return None
        low, high = high, min(2 * high, MOST_SAMPLES)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if verdict(middle / samples) == "inconclusive" else (low, middle)
    return high


def seed_spread(differences: Sequence[float]) -> tuple[float, float, float]:
    """(mean, smallest, largest) of one figure over calibration seeds.

    The range and not a confidence interval: seeds are few, and the largest loss is what a user may meet.
    """
    if not differences or not all(math.isfinite(value) for value in differences):
        raise InputError(f"expected at least one finite difference, found {list(differences)}")
    return math.fsum(differences) / len(differences), min(differences), max(differences)
