"""Kill, starve and break every stage, then call it again: `make faults`.

    python -m tools.faults [--quick] [--seed N] [--share 0.3] [--stage NAME] [--kind NAME]

Of every stage (tools/faults/stages.py) some runs are killed by SIGKILL at a random moment, or right
after a rename or fsync; some meet a full disk, writes that fail with EIO, or a disk that nobody may
write on. Then the same command must end well, its result equal an undisturbed one's, nothing half
written stand under a final name, and nothing be left over. Prints a table; ends with 1 where
something was wrong, with the command that repeats it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tools.faults.stages import STAGES, Stage, prepare
from tools.faults.trial import KINDS, Outcome, attempt, compile_shim, disk, undisturbed
from tools.run.failure import Failure, carry_out

QUICK = {"stages": ("data-folder", "codes", "remove"), "trials": 1}
DISKS = ("full", "read-only")  # the kinds that need a disk of their own


def main() -> None:
    """Run the campaign that the command line asks for."""
    asked = parse()
    stages = [stage for stage in STAGES if asked.stage in ("", stage.name)]
    kinds = [kind for kind in KINDS if asked.kind in ("", kind)]
    if not stages or not kinds:
        names = ", ".join(stage.name for stage in STAGES)
        raise Failure(f"there are the stages {names} and the kinds {', '.join(KINDS)}")
    if asked.quick:
        stages = [stage for stage in stages if stage.name in QUICK["stages"]]
    failures, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        scratch = Path(name).resolve()
        base, place = scratch / "base", scratch / "place"
        base.mkdir()
        compile_shim(scratch)
        prepare(base)
        print(f"seed {asked.seed}; a cell: tried/disturbed/ended well/equal/nothing left over")
        print(f"{'stage':14}" + "".join(f"{kind:>18}" for kind in kinds), flush=True)
        with disk(place) as own_disk:
            for stage in stages:
                normal = undisturbed(stage, place, base, scratch)
                cells = []
                for kind in kinds:
                    if kind in DISKS and not own_disk:
                        cells.append("not root")
                        continue
                    outcomes = []
                    for number in numbers(kind, asked):
                        outcome = attempt(
                            stage,
                            kind,
                            number,
                            asked.seed,
                            normal=normal,
                            place=place,
                            base=base,
                            scratch=scratch,
                        )
                        outcomes.append(outcome)
                        failures += [
                            f"{sentence}\n  {repeat(stage, kind, number, asked.seed)}"
                            for sentence in outcome.wrong
                        ]
                    cells.append(cell(outcomes))
                print(f"{stage.name:14}" + "".join(f"{each:>18}" for each in cells), flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    if failures:
        print(*failures, sep="\n", file=sys.stderr)
        raise Failure(f"{len(failures)} thing(s) were wrong, above")


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one of each kind, of few stages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1, help="of the numbers of a full campaign")
    parser.add_argument("--stage", default="", help="this one alone")
    parser.add_argument("--kind", default="", help="this one alone")
    parser.add_argument("--trial", type=int, help="the trial of this number alone")
    return parser.parse_args()


def numbers(kind: str, asked: argparse.Namespace) -> range:
    """Return the numbers of the trials of a kind."""
    if asked.trial is not None:
        return range(asked.trial, asked.trial + 1)
    return range(QUICK["trials"] if asked.quick else max(1, round(asked.share * KINDS[kind])))


def repeat(stage: Stage, kind: str, number: int, seed: int) -> str:
    """Return the command that repeats a trial."""
    options = f"--seed {seed} --stage {stage.name} --kind {kind} --trial {number}"
    return f".venv/bin/python -m tools.faults {options}"


def cell(outcomes: list[Outcome]) -> str:
    """Return what the table says of some trials."""
    counts = [sum(getattr(each, name) for each in outcomes) for name in COLUMNS]
    mark = " !" if any(each.wrong for each in outcomes) else ""
    return "/".join(map(str, [len(outcomes), *counts])) + mark


COLUMNS = ("disturbed", "well", "equal", "clean")


if __name__ == "__main__":
    carry_out(main)
