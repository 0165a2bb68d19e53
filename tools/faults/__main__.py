"""Kill, starve and break every stage, then call it again: `make faults`.

    python -m tools.faults [--quick] [--seed N] [--share 0.3] [--stage NAME] [--kind NAME]

Of every stage (tools/faults/stages.py) some runs are killed by SIGKILL at a random moment, or right
after a rename or fsync; some meet a full disk, writes that fail with EIO, or a disk that nobody may
write on. Then the same command must end well, its result equal an undisturbed one's, nothing half
written stand under a final name, and nothing be left over. Prints a table; ends with 1 where
something was wrong, with the command that repeats it.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tools.faults.forks import Forks
from tools.faults.stages import STAGES, Stage, prepare
from tools.faults.trial import (
    ENVIRONMENT,
    KINDS,
    Outcome,
    Room,
    attempt,
    compile_shim,
    disk,
    undisturbed,
)
from tools.run.failure import Failure, carry_out

QUICK = {"stages": ("data-folder", "codes", "remove"), "trials": 1}
DISKS = ("full", "read-only")  # the kinds that need a disk of their own
Trial = tuple[str, int]  # its kind and its number
AT_ONCE = 4  # trials, each in a room of its own: a command waits for the disk, and for its children


def main() -> None:
    """Run the campaign that the command line asks for."""
    asked = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what takes the disks away
    stages = [stage for stage in STAGES if asked.stage in ("", stage.name)]
    kinds = [kind for kind in KINDS if asked.kind in ("", kind)]
    if not stages or not kinds:
        names = ", ".join(stage.name for stage in STAGES)
        raise Failure(f"there are the stages {names} and the kinds {', '.join(KINDS)}")
    if asked.quick:
        stages = [stage for stage in stages if stage.name in QUICK["stages"]]
    trials = [(kind, number) for kind in kinds for number in numbers(kind, asked)]
    failures, began = 0, time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))).resolve()
        base, shim = scratch / "base", compile_shim(scratch)
        base.mkdir()
        with Forks(os.environ) as forks:
            prepare(base, forks)
        at_once = 1 if asked.quick or len(trials) == 1 else AT_ONCE
        rooms = [
            Room.new(
                scratch / f"room-{at}",
                *(base, shim, stack.enter_context(Forks(os.environ | ENVIRONMENT))),
            )
            for at in range(at_once)
        ]
        own_disks = all(stack.enter_context(disk(room.place)) for room in rooms)
        possible = [trial for trial in trials if own_disks or trial[0] not in DISKS]
        print(f"seed {asked.seed}; a cell: tried/disturbed/ended well/equal/nothing left over")
        print(f"{'stage':14}" + "".join(f"{kind:>18}" for kind in kinds), flush=True)
        for stage in stages:
            done = outcomes(stage, possible, rooms, asked.seed)
            cells = [cell([done[each] for each in possible if each[0] == kind]) for kind in kinds]
            print(f"{stage.name:14}" + "".join(f"{each:>18}" for each in cells), flush=True)
            for trial in possible:
                for sentence in done[trial].wrong:
                    failures += 1
                    again = repeat(stage, *trial, asked.seed)
                    print(f"{sentence}\n  {again}", file=sys.stderr, flush=True)
    of_cores = sum(os.times()[:4])  # what was killed counts as far as somebody waited for it
    print(f"{time.monotonic() - began:.0f} s, {of_cores:.0f} s of the cores' time")
    if failures:
        raise Failure(f"{failures} thing(s) were wrong, above")


def outcomes(
    stage: Stage, trials: list[Trial], rooms: list[Room], seed: int
) -> dict[Trial, Outcome]:
    """Return the outcomes of some trials, of which each room takes the next as it is free."""
    waiting = iter(trials)
    with ThreadPoolExecutor(len(rooms)) as pool:
        try:
            runs = [pool.submit(work_off, stage, waiting, room, seed) for room in rooms]
            return {trial: outcome for run in runs for trial, outcome in run.result().items()}
        finally:
            deque(waiting, maxlen=0)  # where one room fails, the other takes no more


def work_off(stage: Stage, waiting: Iterator[Trial], room: Room, seed: int) -> dict[Trial, Outcome]:
    """Return the outcomes of the trials that a room takes of those that wait."""
    normal = undisturbed(stage, room)
    return {trial: attempt(stage, *trial, seed, normal=normal, room=room) for trial in waiting}


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


def cell(found: list[Outcome]) -> str:
    """Return what the table says of some trials."""
    if not found:
        return "not root"
    counts = [sum(getattr(each, name) for each in found) for name in COLUMNS]
    mark = " !" if any(each.wrong for each in found) else ""
    return "/".join(map(str, [len(found), *counts])) + mark


COLUMNS = ("disturbed", "well", "equal", "clean")


if __name__ == "__main__":
    carry_out(main)
