"""python -m eval.bench.distance: the cost of one comparison, Hamming beside Euclidean.

The paper (published/distance_cost.csv) gives 22.6 us for a Euclidean distance at 4,096 floats and
23.0 ps for a Hamming distance at 64 bits. `eval.bench.cost` says how it is measured here.
"""

from eval.bench import cost
from eval.pages.text import duration
from eval.published import read_published

BIT_LENGTHS = (12, 24, 32, 48, 64, 128, 256, 512, 1024)


def main() -> None:
    """Measure and print the table, then what this machine can do at most."""
    published = {row["descriptor"]: row for row in read_published("distance_cost")}
    paper_hamming = float(published["SSDH-64"]["seconds_per_comparison"])
    paper_euclidean = float(published["CNN-fc7-4096"]["seconds_per_comparison"])
    print(
        f"best of {cost.REPEATS} runs in turns, per comparison; operands are random, every distance"
    )
    print("is used to find the nearest row, and both scans give the same distances")
    print(f"{'':26}{'1 core':^22}  {f'{cost.CORES} cores':^22}  {'FAISS/this,':>12}")
    print(
        f"{'Hamming':26}{'this':>11}{'FAISS':>11}  {'this':>11}{'FAISS':>11}  {'best of each':>12}"
    )
    for bits in BIT_LENGTHS:
        one, all_cores = cost.hamming(bits)
        ratio = min(one[1], all_cores[1]) / min(one[0], all_cores[0])
        times = "  ".join(
            "".join(f"{duration(value):>11}" for value in pair) for pair in (one, all_cores)
        )
        remark = f"   paper: {duration(paper_hamming)}" if bits == 64 else ""
        print(f"{f'{bits} bits':26}{times}  {ratio:>12.2f}{remark}", flush=True)
    one_by_one, together = cost.euclidean()
    print(f"Euclidean, 4,096 floats, {cost.CORES} cores")
    print(
        f"{'  a query at a time':26}{duration(one_by_one):>11}   paper: {duration(paper_euclidean)}"
    )
    queries = f"  {cost.FLOAT_QUERIES} queries at once"
    print(f"{queries:26}{duration(together):>11}   (a matrix product)")
    bandwidth, words = cost.copied_bytes_per_second(), cost.popcounts_per_second()
    print("this machine's own limit")
    print(f"  plain copy, bytes read and written: {bandwidth / 1e9:.1f} GB/s")
    print(f"  popcount of words in cache, one core: {duration(1 / words)} a word")
    print(
        f"No core compares two 64-bit words in {duration(paper_hamming)}: that is "
        f"{1e-9 / paper_hamming:.0f} comparisons a nanosecond, and {words * paper_hamming:.2f} "
        f"words is what a core of this machine counts in that time, with nothing else to do."
    )


if __name__ == "__main__":
    main()
