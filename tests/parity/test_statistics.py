from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.parity.statistics import (
    MOST_SAMPLES,
    Margin,
    agreement_with_reference,
    mcnemar_p,
    non_inferiority,
    paired_difference_interval,
    seed_spread,
)
from edgevit.statistics import normal_quantile

COUNTS = st.integers(1, 3000).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda lost: st.tuples(st.just(lost), st.integers(0, n - lost), st.just(n)))
)


# ------------------------------------------------------------------------------------------------ McNemar


def exact_mcnemar(lost: int, gained: int) -> Fraction:
    """Every outcome of the discordant pairs that is at most as likely as the observed one, counted."""
    pairs = lost + gained
    observed = math.comb(pairs, lost)
    ways = sum(math.comb(pairs, k) for k in range(pairs + 1) if math.comb(pairs, k) <= observed)
    return Fraction(ways, 2**pairs)


@pytest.mark.parametrize("lost", range(14))
@pytest.mark.parametrize("gained", range(14))
def test_mcnemar_agrees_with_enumeration(lost: int, gained: int) -> None:
    assert mcnemar_p(lost, gained) == pytest.approx(float(exact_mcnemar(lost, gained)), rel=1e-12)


@pytest.mark.parametrize(("lost", "gained"), [(0, 1500), (700, 800), (2400, 2600), (3, 4000)])
def test_mcnemar_is_right_for_thousands_of_pairs(lost: int, gained: int) -> None:
    pairs, fewer = lost + gained, min(lost, gained)
    total = ways = 1
    for k in range(fewer):
        ways = ways * (pairs - k) // (k + 1)
        total += ways
    exact = Fraction(2 * total, 2**pairs)
    assert mcnemar_p(lost, gained) == pytest.approx(float(exact), rel=1e-9)


def test_mcnemar_of_a_million_pairs_neither_overflows_nor_vanishes() -> None:
    # The normal approximation with continuity correction, which is exact to four digits at this size.
    z = 999 / math.sqrt(1_001_000)
    assert mcnemar_p(500_000, 501_000) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert mcnemar_p(0, 1_000_000) == 0.0


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_symmetric_and_a_probability(lost: int, gained: int) -> None:
    p = mcnemar_p(lost, gained)
    assert 0.0 <= p <= 1.0
    assert p == mcnemar_p(gained, lost)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_falls_as_the_larger_side_grows(fewer: int, more: int) -> None:
    assert mcnemar_p(fewer, fewer + more + 1) <= mcnemar_p(fewer, fewer + more)


def test_mcnemar_without_discordant_pairs_sees_nothing() -> None:
    assert mcnemar_p(0, 0) == 1.0


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(InputError, match="at least 0"):
        mcnemar_p(-1, 2)


# -------------------------------------------------------------------------------------------------- Tango


@pytest.mark.parametrize(
    ("lost", "gained", "samples", "level", "low", "high"),
    [
        # R's PropCIs 0.3: scoreci.mp(25, 28, 618, 0.90) and scoreci.mp(60, 20, 1000, 0.95).
        (25, 28, 618, 0.90, -0.0148, 0.0247),
        (60, 20, 1000, 0.95, -0.0584, -0.0231),
        # Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33:2850), airway hyper-responsiveness.
        (7, 1, 21, 0.95, -0.5172, -0.0260),
    ],
)
def test_tango_matches_published_intervals(
    lost: int, gained: int, samples: int, level: float, low: float, high: float
) -> None:
    interval = paired_difference_interval(lost, gained, samples, level=level)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100_000), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_tango_has_its_closed_form_without_discordant_pairs(samples: int, level: float) -> None:
    z = normal_quantile((1 + level) / 2)
    interval = paired_difference_interval(0, 0, samples, level=level)
    assert interval.high == pytest.approx(z * z / (samples + z * z), rel=1e-9)
    assert interval.low == -interval.high


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_tango_bounds_bracket_the_difference_and_mirror(counts: tuple[int, int, int]) -> None:
    lost, gained, samples = counts
    interval = paired_difference_interval(lost, gained, samples)
    assert -1.0 <= interval.low <= (gained - lost) / samples <= interval.high <= 1.0
    assert interval.high - interval.low > 0.0
    mirrored = paired_difference_interval(gained, lost, samples)
    assert (mirrored.low, mirrored.high) == (-interval.high, -interval.low)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.floats(0.5, 0.94), st.integers(2, 20))
def test_tango_narrows_with_less_confidence_and_with_more_samples(
    counts: tuple[int, int, int], level: float, times: int
) -> None:
    lost, gained, samples = counts
    wide = paired_difference_interval(lost, gained, samples, level=0.95)
    narrow = paired_difference_interval(lost, gained, samples, level=level)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high
    more = paired_difference_interval(times * lost, times * gained, times * samples, level=0.95)
    assert wide.low <= more.low + 1e-12
    assert more.high <= wide.high + 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(200, 2000))
def test_tango_moves_down_when_one_more_is_lost(lost: int, gained: int, samples: int) -> None:
    before, after = (paired_difference_interval(count, gained, samples) for count in (lost, lost + 1))
    assert after.low < before.low
    assert after.high < before.high


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(30, 300))
def test_tango_bound_solves_the_score_equation_with_the_constrained_maximum_likelihood(
    lost: int, gained: int, samples: int
) -> None:
    """The nuisance share is maximized here by golden-section search over the likelihood, not by the formula."""
    level, z = 0.95, normal_quantile(0.975)
    bound = paired_difference_interval(lost, gained, samples, level=level).low
    share = most_likely_lost_share(lost, gained, samples, bound)
    score = (gained - lost - samples * bound) / math.sqrt(samples * (2 * share + bound * (1 - bound)))
    assert score == pytest.approx(z, rel=1e-4)


def most_likely_lost_share(lost: int, gained: int, samples: int, difference: float) -> float:
    def log_likelihood(share: float) -> float:
        cells = [(lost, share), (gained, share + difference), (samples - lost - gained, 1 - 2 * share - difference)]
        return sum(count * math.log(max(probability, 1e-300)) for count, probability in cells if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    for _ in range(200):
        left, right = low + 0.381966 * (high - low), low + 0.618034 * (high - low)
        low, high = (left, high) if log_likelihood(left) < log_likelihood(right) else (low, right)
    return (low + high) / 2


def outcomes(samples: int, lost: float, gained: float) -> list[tuple[int, int, float]]:
    """(lost, gained, probability) of every result that is not astronomically unlikely."""
    most = int(samples * max(lost, gained) + 6 * math.sqrt(samples * max(lost, gained))) + 4
    found = []
    for b in range(most):
        for c in range(most):
            rest = samples - b - c
            log_ways = math.lgamma(samples + 1) - sum(math.lgamma(count + 1) for count in (b, c, rest))
            log_share = b * math.log(lost) + c * math.log(gained) + rest * math.log(1 - lost - gained)
            found.append((b, c, math.exp(log_ways + log_share)))
    return [outcome for outcome in found if outcome[2] > 1e-7]


@pytest.mark.parametrize(("samples", "lost", "gained"), [(200, 0.03, 0.02), (500, 0.01, 0.005), (300, 0.004, 0.004)])
def test_tango_covers_the_true_difference_as_often_as_it_says(samples: int, lost: float, gained: float) -> None:
    covered = 0.0
    for b, c, probability in outcomes(samples, lost, gained):
        interval = paired_difference_interval(b, c, samples, level=0.95)
        covered += probability * (interval.low <= gained - lost <= interval.high)
    assert 0.94 < covered < 0.99


# ------------------------------------------------------------------------------------------------ verdicts


@pytest.mark.parametrize(
    ("samples", "lost", "gained", "verdict", "needed"),
    [
        # Perfect agreement: 539 is the first n with z² / (n + z²) < 0.5 %, z = 1.6449.
        (100, 0, 0, "inconclusive", 539),
        (538, 0, 0, "inconclusive", 539),
        (539, 0, 0, "passed", None),
        (540, 0, 0, "passed", None),
        (900, 0, 0, "passed", None),
        (5000, 0, 0, "passed", None),
        # 900 samples, the size of a digits split: one lost, or two each way, is all that a pass allows.
        (900, 2, 2, "passed", None),
        (900, 1, 0, "passed", None),
        (900, 3, 3, "inconclusive", 1007),
        (900, 2, 0, "inconclusive", 1745),
        # The estimate is below the margin, and too few samples say so: never passed.
        (100, 2, 0, "inconclusive", 182),
        (360, 3, 1, "inconclusive", 1501),
        # Exactly the margin: no number of samples tells which side of it the truth is on.
        (200, 1, 0, "inconclusive", None),
        # Beyond the margin with certainty, and beyond it with a loss that is certain.
        (5000, 100, 10, "failed", None),
        (900, 12, 2, "failed", None),
        (5000, 50, 20, "failed", None),
        # A proven loss within the budget is within the budget.
        (50_000, 100, 0, "passed", None),
        (900, 0, 5, "passed", None),
    ],
)
def test_verdict_table(samples: int, lost: int, gained: int, verdict: str, needed: int | None) -> None:
    decision = non_inferiority(lost, gained, samples)
    assert (decision.verdict, decision.samples_needed) == (verdict, needed)
    assert decision.difference == pytest.approx(100 * (gained - lost) / samples)


def test_900_samples_bound_the_loss_as_documented() -> None:
    assert non_inferiority(0, 0, 900).interval.low == pytest.approx(-0.2997, abs=1e-4)
    assert non_inferiority(2, 2, 900).interval.low == pytest.approx(-0.4718, abs=1e-4)
    assert non_inferiority(2, 2, 900).interval.level == pytest.approx(0.9)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.floats(0.1, 5.0))
def test_verdicts_follow_from_the_figures(counts: tuple[int, int, int], points: float) -> None:
    lost, gained, samples = counts
    decision = non_inferiority(lost, gained, samples, Margin(points=points))
    assert (decision.verdict == "passed") == (decision.interval.low > -points)
    if decision.difference < -points:
        assert decision.verdict != "passed"
        certain = decision.interval.high < -points or decision.p < 0.05
        assert decision.verdict == ("failed" if certain else "inconclusive")
    assert decision.samples_needed is None or samples < decision.samples_needed <= MOST_SAMPLES


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 538), st.floats(0.05, 5.0))
def test_the_need_without_discordant_pairs_is_exact(samples: int, points: float) -> None:
    needed = non_inferiority(0, 0, samples, Margin(points=points)).samples_needed
    if needed is not None:
        assert non_inferiority(0, 0, needed, Margin(points=points)).verdict == "passed"
        assert non_inferiority(0, 0, needed - 1, Margin(points=points)).verdict == "inconclusive"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(100, 2000))
def test_the_need_decides_when_the_rates_hold(lost: int, gained: int, samples: int) -> None:
    needed = non_inferiority(lost, gained, samples).samples_needed
    if needed is not None:
        # Whole multiples of what was seen, so that no rounding stands between the forecast and the decision.
        times = math.ceil(needed / samples)
        assert non_inferiority(times * lost, times * gained, times * samples).verdict != "inconclusive"


@pytest.mark.parametrize(("lost", "gained"), [(0.01, 0.005), (0.0055, 0.0005)])
def test_a_build_at_the_margin_rarely_passes(lost: float, gained: float) -> None:
    """The error the verdict promises to keep: a true loss of 0.5 points passes in about 5 % of all sets."""
    passed = sum(probability for b, c, probability in outcomes(900, lost, gained) if non_inferior(b, c, 900))
    assert 0.01 < passed < 0.055


def non_inferior(lost: int, gained: int, samples: int) -> bool:
    return paired_difference_interval(lost, gained, samples, level=0.9).low > -0.005


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(100, 3000))
def test_losing_one_more_never_improves_the_verdict(lost: int, gained: int, samples: int) -> None:
    order = {"passed": 0, "inconclusive": 1, "failed": 2}
    one, more = non_inferiority(lost, gained, samples), non_inferiority(lost + 1, gained, samples)
    assert order[one.verdict] <= order[more.verdict]


@pytest.mark.parametrize(
    ("samples", "disagreements", "verdict", "needed"),
    [
        (100, 0, "inconclusive", 539),
        (539, 0, "passed", None),
        (900, 1, "passed", None),
        (900, 2, "inconclusive", 1745),
        (900, 10, "failed", None),
        # Six of a thousand would be a "significant" one-sided loss; against a 0.5 margin it decides nothing.
        (1000, 6, "inconclusive", None),
    ],
)
def test_agreement_table(samples: int, disagreements: int, verdict: str, needed: int | None) -> None:
    decision = agreement_with_reference(disagreements, samples)
    assert decision.verdict == verdict
    if disagreements != 6:
        assert decision.samples_needed == needed
    assert decision.interval.low <= decision.difference <= decision.interval.high <= 0.0


def test_perfect_agreement_is_plain_zero() -> None:
    decision = agreement_with_reference(0, 900)
    assert math.copysign(1.0, decision.difference) == 1.0
    assert math.copysign(1.0, decision.interval.high) == 1.0


@pytest.mark.parametrize("points", [0.0, -0.5, 100.0, float("nan")])
def test_a_margin_must_be_a_loss(points: float) -> None:
    with pytest.raises(InputError, match="margin"):
        non_inferiority(0, 0, 100, Margin(points=points))


@pytest.mark.parametrize(("lost", "gained", "samples"), [(0, 0, 0), (6, 5, 10), (-1, 0, 10)])
def test_impossible_counts_are_refused(lost: int, gained: int, samples: int) -> None:
    with pytest.raises(InputError, match="expected"):
        non_inferiority(lost, gained, samples)


# --------------------------------------------------------------------------------------------------- seeds


def test_seed_spread_keeps_the_worst_and_the_best_seed() -> None:
    assert seed_spread([-0.2, 0.1, -0.5]) == (pytest.approx(-0.2), -0.5, 0.1)
    assert seed_spread([0.25]) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("differences", [[], [0.1, float("nan")]])
def test_seed_spread_needs_finite_figures(differences: list[float]) -> None:
    with pytest.raises(InputError, match="at least one finite difference"):
        seed_spread(differences)
