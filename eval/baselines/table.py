"""The baselines on one run's features as a table, SSDH's runs beside them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from eval.baselines.methods import BASELINES, source_digest
from eval.files import InputError
from eval.protocol import RELEASE_K
from eval.records import read_baseline
from eval.run_folders import Run
from eval.summary import figures_of, with_ties
from eval.tables import METHODS

BESIDE = METHODS["ssdh"]


class Row(NamedTuple):
    """One method at one code length (None for features themselves).

    metrics: figures under metrics.json's names, None where nothing was measured. source: the run.
    """

    method: str
    bits: int | None
    metrics: dict | None
    source: str


def rows(
    run: Run,
    code_lengths: list[int],
    runs: list[Run],
    methods: Sequence[str] = (),
    left_out: Callable[[InputError], None] | None = None,
) -> list[Row]:
    """Return Euclidean search, each baseline at each code length, and SSDH's runs beside them.

    run: whose features the baselines learned on; results on features of other weights do not
    count. runs: among them those of SSDH on the same data set and net are looked for. methods: keys
    of BASELINES, all of them where there is none. left_out: takes the error of each result that
    cannot be read, or that is of other code than today's; without it, such an error is raised.
    """

    def result(name: str, bits: int | None = None) -> dict | None:
        try:
            return _result(run, name, bits)
        except InputError as error:
            if not left_out:
                raise
            left_out(error)
            return None

    name = run.folder.name
    euclidean = result("euclidean")
    tuned = "" if run.has_codes or run.settings.get("head") else "-ft"
    table = [Row(f"{run.settings['net']}{tuned}, Euclidean", None, euclidean, name)]
    for bits in code_lengths:
        table += [
            Row(baseline.name, bits, result(key, bits), name)
            for key, baseline in BASELINES.items()
            if not methods or key in methods
        ]
        beside = [other for other in runs if _is_ssdh_beside(other, run, bits)]
        table += [Row(BESIDE.title, bits, other.metrics, other.folder.name) for other in beside]
        if not beside:
            table.append(Row(BESIDE.title, bits, None, "no such run"))
    return table


def lines(
    run: Run, code_lengths: list[int], runs: list[Run], methods: Sequence[str] = ()
) -> list[str]:
    """Return the lines of the table to print, of the baselines `methods` or all, with their run.

    Of several labels a picture, NDCG stands behind mAP. Last stand the codes with constant bits.
    """
    table = rows(run, code_lengths, runs, methods)
    last = max(row.metrics["precision_at_k"]["k"][-1] for row in table if row.metrics)
    precision = f"P@{last}"
    graded = any("graded" in row.metrics for row in table if row.metrics)
    ndcg = f" {f'NDCG@{RELEASE_K}':9}" if graded else ""
    text = [
        f"{'method':20} {'bits':>4}  {'mAP, whole ranking':48} {'mAP@1000':8}{ndcg} "
        f"{precision:6}  run"
    ]
    for row in table:
        metrics = row.metrics
        text.append(
            f"{row.method:20} {row.bits or '':4}  "
            + (
                f"{with_ties(metrics['map'], metrics['ties']['map']):48} "
                f"{metrics['map_at_1000']:<8.4f}{_ndcg(metrics)} "
                f"{metrics['precision_at_k']['precision'][-1]:.4f}"
                if metrics
                else f"{'not measured':48} {'':8}{'':{len(ndcg)}} {'':6}"
            )
            + f"  {row.source}"
        )
    return text + constant(table)


def constant(table: list[Row]) -> list[str]:
    """Return a sentence on each row whose codes have bits that never change."""
    return [
        f"{row.method}, {row.bits} bits: {count} of them never change in the database"
        for row in table
        if row.metrics and (count := row.metrics.get("constant_bits"))
    ]


def _ndcg(metrics: dict) -> str:
    found = figures_of(metrics, f"NDCG@{RELEASE_K}")
    return f" {found[0]:<9.4f}" if found else ""


def code_lengths(run: Run) -> list[int]:
    """Return the code lengths, ascending, at which the run's folder has some baseline's result."""
    names = (path.stem.rpartition("-") for path in (run.folder / "baselines").glob("*-*.json"))
    return sorted(
        {int(bits) for baseline, _, bits in names if baseline in BASELINES and bits.isdecimal()}
    )


def _result(run: Run, name: str, bits: int | None) -> dict | None:
    path = run.folder / "baselines" / (f"{name}-{bits}.json" if bits else f"{name}.json")
    if run.metrics is None or not path.exists():
        return None
    result = read_baseline(path)
    if result["learned_on"]["net_fingerprint"] != run.metrics["net_fingerprint"]:
        return None
    if result["learned_on"]["source_sha256"] != source_digest(name):
        raise InputError(f"{path} is of other code than today's; run make baselines")
    return result


def _is_ssdh_beside(other: Run, run: Run, bits: int) -> bool:
    same = all(
        (other.settings.get(name) or 0) == (run.settings.get(name) or 0)
        for name in ("dataset", "net", "subset", "head")
    )
    return same and other.method == BESIDE.name and other.settings["bits"] == bits
