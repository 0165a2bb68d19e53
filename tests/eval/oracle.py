"""The metrics again, as plain double loops over unpacked bits: slow, obvious, for comparison."""

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


def all_tie_orders(groups):
    """Every ranked list of 0 and 1, with repeats, that ordering each group anew can give.

    groups: for each distance, the list of 0 and 1 of its rows.
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
