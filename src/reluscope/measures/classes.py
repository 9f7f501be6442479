"""What patterns have to do with the classes of the images: counts of each pattern in each class.

A position of an image has the pattern A and its image's class L. A probability is a count over all positions,
logarithms are to the base 2, and entropies are in bits:

    H(A, L) = - sum p(a, l) log2 p(a, l) = H(L) + H(A|L)        I(A; L) = H(A) - H(A|L) = H(A) + H(L) - H(A, L)

    0 <= I(A; L) <= min(H(A), H(L))        H(A|L) <= H(A)        max(H(A), H(L)) <= H(A, L) <= H(A) + H(L)

**Finite samples.** These are the numbers of the images that were counted, not of all that could be. Where most patterns
occur once, a pattern names its image and so its class: I(A; L) comes close to H(L) whatever the labels say, as in deep
and wide layers. The same with labels shuffled over the images (`mutual_information_of_shuffled_labels`) is what is due
to this alone, since such labels have nothing to do with the images; only what exceeds it speaks of the classes.
Positions of an image keep one label together, as they share one image, which a formula for shuffled positions (Vinh,
Epps & Bailey 2010) would not do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reluscope.patterns import ClassCounts, PatternCounts, entropy_of


def joint_entropy(counts: PatternCounts, classes: ClassCounts) -> float:
    """Entropy of a position's pattern and class together, H(A, L), in bits: at least H(A), at most H(A) + H(L)."""
    return entropy_of(classes.counts)


def conditional_entropy(counts: PatternCounts, classes: ClassCounts) -> float:
    """Entropy of a position's pattern where its class is known, H(A|L), in bits: 0 to H(A)."""
    return min(max(joint_entropy(counts, classes) - _class_entropy(classes), 0.0), counts.entropy)  # up to rounding


def mutual_information(counts: PatternCounts, classes: ClassCounts) -> float:
    """What a position's pattern says of its class, I(A; L), in bits: 0 to min(H(A), H(L))."""
    return _information(counts, classes, joint_entropy(counts, classes))


def mutual_information_share(counts: PatternCounts, classes: ClassCounts) -> float:
    """I(A; L) over the entropy of the classes, H(L): 0 to 1; NaN for one single class, of which nothing can be said."""
    of_classes = _class_entropy(classes)
    return min(mutual_information(counts, classes) / of_classes, 1.0) if of_classes else float("nan")


def mutual_information_of_shuffled_labels(
    counts: PatternCounts, classes: ClassCounts, shuffled_joint_entropy: float
) -> float:
    """I(A; L) in bits where the labels are shuffled over the images: what finite samples alone make of it."""
    return _information(counts, classes, shuffled_joint_entropy)


def entropy_of_each_class(counts: PatternCounts, classes: ClassCounts) -> NDArray[np.float64]:
    """Entropy of the patterns of each class's images, in bits: 0 to log2(positions); NaN for a class without images.

    Its mean, weighted by the classes' positions, is H(A|L).
    """
    positions = classes.num_positions
    sums = np.bincount(classes.index, classes.counts * np.log2(classes.counts), classes.num_classes)
    known = np.where(positions > 0, positions, np.nan)
    return np.maximum(np.log2(known) - sums / known, 0.0)


def patterns_of_one_class(counts: PatternCounts, classes: ClassCounts) -> float:
    """Share of the distinct patterns that occur in one class only: 0 to 1."""
    return float((classes.num_classes_of == 1).mean())


def weighted_jaccard_to_other_classes(counts: PatternCounts, classes: ClassCounts) -> NDArray[np.float64]:
    """Weighted Jaccard similarity of each class's patterns to those of all other images: 0 to 1.

    Sum of minima over sum of maxima of the shares that each pattern has among the class's positions and among all
    others; shares, because one class is smaller than all others together. NaN where either has no images.
    """
    positions = classes.num_positions
    here = positions.astype(np.float64)
    here[(positions == 0) | (positions == positions.sum())] = np.nan
    others = np.repeat(counts.counts, classes.num_classes_of) - classes.counts
    share = classes.counts / here[classes.index]
    other_share = others / (positions.sum() - here)[classes.index]
    minima = np.bincount(classes.index, np.minimum(share, other_share), classes.num_classes)
    # both sum to 1, and min + max = a + b; rounding may exceed 1
    return np.where(np.isnan(here), np.nan, np.minimum(minima / (2 - minima), 1.0))


def weighted_jaccard_between_classes(counts: PatternCounts, classes: ClassCounts) -> float:
    """Weighted Jaccard similarity of the classes' patterns, over all pairs of classes together: 0 to 1.

    Sum of minima over sum of maxima of the shares that each pattern has among the positions of either class, both
    summed over all patterns and pairs: 0 where no pattern is in two classes, 1 where all classes show every pattern
    equally often. NaN for one single class.
    """
    positions = classes.num_positions
    present = int((positions > 0).sum())
    if present < 2:
        return float("nan")
    share = classes.counts / positions[classes.index]
    row = np.repeat(np.arange(len(classes.num_classes_of)), classes.num_classes_of)
    in_order = share[np.lexsort((share, row))]
    # of a pattern's k shares in order, the r-th (from 0) is the smaller of k - 1 - r pairs; a class without it has 0
    larger = classes.indptr[1:][row] - 1 - np.arange(len(row))
    minima = float((in_order * larger).sum())
    return min(minima / (present * (present - 1) - minima), 1.0)  # a pair's minima and maxima sum to 2


def _class_entropy(classes: ClassCounts) -> float:
    """Of the classes, H(L), in bits."""
    positions = classes.num_positions
    return entropy_of(positions[positions > 0])


def _information(counts: PatternCounts, classes: ClassCounts, joint: float) -> float:
    of_classes = _class_entropy(classes)
    return min(max(counts.entropy + of_classes - joint, 0.0), counts.entropy, of_classes)  # up to rounding
