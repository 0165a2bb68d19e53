"""The metrics again, as plain double loops over unpacked bits: slow, obvious, for comparison."""

import math
from fractions import Fraction
from itertools import permutations


def ranking(query_bits, database_bits, excluded=-1):
    """(row, distance) of every database row but `excluded`, by distance, ties in row order."""
    distances = []
    for row, bits in enumerate(database_bits):
        if row != excluded:
            distances.append((row, sum(a != b for a, b in zip(query_bits, bits, strict=True))))
    return sorted(distances, key=lambda pair: pair[1])


def average_precision(relevance, k, trec=False):
    """AP among the first k of a ranked list of 0 and 1, as a fraction."""
    hits = 0
    total = Fraction(0)
    for rank, relevant in enumerate(relevance[:k], start=1):
        if relevant:
            hits += 1
            total += Fraction(hits, rank)
    denominator = sum(relevance) if trec else hits
    return total / denominator if denominator else Fraction(0)


def precision(relevance, k):
    return Fraction(sum(relevance[:k]), min(k, len(relevance)))


def dcg(grades, k):
    """DCG among the first k of a ranked list of grades."""
    total = []
    for rank, grade in enumerate(grades[:k], start=1):
        total.append((2**grade - 1) / math.log2(1 + rank))
    return math.fsum(total)


def ndcg(grades, k):
    ideal = dcg(sorted(grades, reverse=True), k)
    return dcg(grades, k) / ideal if ideal else 0.0


def acg(grades, k):
    return Fraction(sum(grades[:k]), min(k, len(grades)))


def weighted_average_precision(grades, k):
    """Weighted AP among the first k of a ranked list of grades, as a fraction."""
    relevant = 0
    total = Fraction(0)
    for rank, grade in enumerate(grades[:k], start=1):
        if grade > 0:
            relevant += 1
            total += acg(grades, rank)
    return total / relevant if relevant else Fraction(0)


def all_tie_orders(groups):
    """Every ranked list of grades, with repeats, that ordering each group anew can give.

    groups: for each distance, the list of the grades of its rows; 0 and 1 where a row is relevant
    or not.
    """
    if not groups:
        yield ()
        return
    for head in permutations(groups[0]):
        for tail in all_tie_orders(groups[1:]):
            yield head + tail


def over_tie_orders(groups, figure):
    """Expected, worst and best value of figure(list) over all orders of ties."""
    values = [figure(relevance) for relevance in all_tie_orders(groups)]
    return sum(values) / len(values), min(values), max(values)
