"""Ratios of sums over patterns, of all patterns or estimated from a sample of pattern space.

A measure that compares two states is a ratio R = sum y / sum x over the patterns that either of them shows. A sample S
holds each pattern with probability p = 1 / n, independently of the others, because its hash decides
(`reluscope.patterns.is_sampled`): Bernoulli sampling. The estimate is the ratio of the sampled sums; p cancels:

    r = sum_S y / sum_S x

To first order, r - R = sum_S e / (p * sum x) with the residuals e = y - R * x, whose sum over all patterns is 0. A
sampled sum of e has the variance p * (1 - p) * sum e^2 (each pattern is in or out for itself), and p * sum e^2 is
estimated by sum_S e^2, p * sum x by sum_S x, and R by r. Therefore

    var(r) = (1 - p) * sum_S (y - r * x)^2 / (sum_S x)^2

and the standard error is its root (Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling, chapters 3 and 5;
Cochran 1977, Sampling Techniques, 3rd edition, chapter 6). It holds for many sampled patterns, and is too small
where a few of them make most of the sums, or where all but a handful agree. Where all agree (r is 0 or 1) it would be
0, though patterns outside the sample may disagree: it is not known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Estimate:
    """What a measure gives for a sample, where it is not exact.

    It takes no part in sums and products, so that nobody loses its standard error by mistake.

    Attributes:
        value: the estimate; NaN where the sample holds nothing to estimate from.
        standard_error: of the value; NaN where it is not known, as where all patterns of the sample agree.
    """

    value: float
    standard_error: float


def ratio(numerators: ArrayLike, denominators: ArrayLike, one_in: int, times: ArrayLike = 1) -> float | Estimate:
    """Sum of numerators over sum of denominators; with a standard error where it is of a sample.

    Args:
        numerators, denominators: y and x of each pattern, or of each kind of patterns.
        one_in: the sample is 1 / one_in of pattern space; 1 for all of it, where the ratio is exact; NaN over nothing.
        times: how many patterns are of each kind.
    """
    y, x, n = np.asarray(numerators), np.asarray(denominators), np.asarray(times)
    total = int((n * x).sum())
    if one_in == 1:
        return int((n * y).sum()) / (total or math.nan)
    if total == 0:
        return Estimate(math.nan, math.nan)
    value = int((n * y).sum()) / total
    squares = float((n * (y - value * x) ** 2).sum())
    return Estimate(value, math.sqrt((1 - 1 / one_in) * squares) / total if squares else math.nan)
