"""Feed every command damaged files: lists, folders, JSON, HDF5, caffemodels: `make fuzz`.

    python -m tools.faults.fuzz [--seed N] [--examples N] [--target NAME ...]

Bytes of a good file are flipped, cut, doubled or put in by Hypothesis, seeded. Whoever reads such a
file must answer, or say a sentence and end with 1: no traceback, no hang, no death by a signal, no
more than 2 GB. Python's readers run in this process; what HDF5 and Caffe read, in one of its own.
Prints a table; for each failure the smallest example, kept as a file.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import shlex
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tools.faults.forks import Forks
from tools.faults.readers import TARGETS, Target, set_up
from tools.run.failure import FAMILY, Failure, carry_out

MEMORY = 2 << 30  # bytes, beyond what the process has before
SECONDS = 30  # of one example, of a core's time
WAITED = 900  # seconds of the clock, on a machine that may be busy
EXAMPLES = 60  # of a target
CHEAP = 5  # times as many of what needs no process of its own


# ---- the damage --------------------------------------------------------------------------------

VALUE_EDITS = st.lists(
    st.tuples(st.just("value"), st.floats(0, 1), st.binary(min_size=1, max_size=1)),
    min_size=1,
    max_size=2,
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "zero", "end"]),
        st.one_of(st.floats(0, 1), st.floats(0, 0.01)),  # where: heads break more than pixels do
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


VALUES = [None, [], {}, "", "x", -1, 1e999, 10**30, True, ["x"], {"x": 1}]


def damaged(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Return a file's content after some edits, each at a share of its length."""
    for kind, share, data in edits:
        if kind == "value":
            content = with_another_value(content, share, data)
            continue
        at = int(share * max(0, len(content) - 1))
        if kind == "flip":
            some = bytes(a ^ b for a, b in zip(content[at : at + len(data)], data, strict=False))
            content = content[:at] + some + content[at + len(some) :]
        elif kind == "cut":
            content = content[:at] + content[at + len(data) :]
        elif kind == "insert":
            content = content[:at] + data + content[at:]
        elif kind == "zero":
            content = content[:at] + bytes(len(data)) + content[at + len(data) :]
        else:
            content = content[:at]
    return content


def with_another_value(content: bytes, share: float, data: bytes) -> bytes:
    """Return a JSON text with one value in place of another, or without it; others as they are."""
    try:
        whole = json.loads(content)
    except ValueError:
        return content
    places, queue = [], [whole]
    while queue:
        some = queue.pop()
        if not isinstance(some, dict | list):
            continue
        keys = list(some) if isinstance(some, dict) else range(len(some))
        places += [(some, key) for key in keys]
        queue += [some[key] for key in keys]
    if not places:
        return content
    holder, key = places[int(share * (len(places) - 1))]
    if data[0] % (len(VALUES) + 1) == len(VALUES):
        del holder[key]
    else:
        holder[key] = VALUES[data[0] % (len(VALUES) + 1)]
    return json.dumps(whole).encode()


def attempt(target: Target, base: Path) -> str:
    """Return what is wrong with how a target reads its file, "" where nothing is."""
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet):
            target.read(base)
    except (*FAMILY, OSError) as error:
        sentence = str(error)
        return "" if sentence.strip() else "an error without a sentence"
    except MemoryError:
        return "more than 2 GB of memory"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    return ""


def in_child(target: Target, base: Path) -> str:
    """Return what attempt() does, in a process of its own that may die, hang or take memory."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            log = os.open(os.devnull, os.O_WRONLY)
            os.dup2(log, 2)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(WAITED)
            os.write(writer, attempt(target, base).encode()[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == -signal.SIGPROF:
        return f"it takes more than {SECONDS} s"
    if code == -signal.SIGALRM:
        return f"it hangs, for {WAITED} s"
    return f"a death by {signal.Signals(-code).name}" if code < 0 else said


def fuzz(target: Target, base: Path, number: int, examples: int) -> tuple[int, str, bytes]:
    """Return how many examples were tried, what is wrong with the smallest bad one, and that."""
    path = next(base.glob(target.file))
    whole = path.read_bytes()
    kept = {each: each.read_bytes() for each in path.parent.glob("*") if each.is_file()}
    run = in_child if target.child else attempt
    tried, worst = 0, ("", b"")

    @seed(number)
    @settings(
        max_examples=examples if target.child else CHEAP * examples,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.one_of(VALUE_EDITS, VALUE_EDITS, EDITS) if path.suffix == ".json" else EDITS)
    def example(edits: list[tuple[str, float, bytes]]) -> None:
        nonlocal tried, worst
        tried += 1
        content = damaged(whole, edits)
        for each, before in kept.items():
            if not each.exists() or each.read_bytes() != before:
                each.write_bytes(before)
        path.unlink(missing_ok=True)  # a hard link of another name stays as it is
        path.write_bytes(content)
        if wrong := run(target, base):
            worst = (wrong, content)
            raise AssertionError(wrong)

    with contextlib.suppress(AssertionError, Flaky):  # by then `worst` has it
        example()
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    return tried, *worst


def main() -> None:
    """Fuzz what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each target")
    parser.add_argument("--target", nargs="+", default=(), help="these alone")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args()
    targets = [target for target in TARGETS if not asked.target or target.name in asked.target]
    if len(targets) < len(asked.target):
        raise Failure(f"there are the targets {', '.join(target.name for target in TARGETS)}")
    os.environ["GLOG_minloglevel"] = "3"  # noqa: SIM112, glog's own spelling
    for module in ("caffe", "eval.protocol", "eval.features", "tools.search.index"):
        importlib.import_module(module)  # once, and not in each process
    failed = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        base = Path(name).resolve()
        with Forks(os.environ) as forks:
            set_up(base, forks)
        print(f"seed {asked.seed}\n{'target':20}{'examples':>10}  the smallest that is wrong")
        for target in targets:
            tried, wrong, content = fuzz(target, base, asked.seed, asked.examples)
            shown = wrong or "none"
            if wrong:
                failed.append(target.name)
                file = asked.keep / f"fuzz-{target.name.replace(' ', '-')}"
                file.write_bytes(content)
                shown += f" ({file}, {len(content)} bytes)"
            print(f"{target.name:20}{tried:>10}  {shown}", flush=True)
    if failed:
        again = f".venv/bin/python -m tools.faults.fuzz --seed {asked.seed}"
        print(
            *(f"{again} --target {shlex.quote(name)}" for name in failed), sep="\n", file=sys.stderr
        )
        raise Failure(f"{len(failed)} of {len(targets)} readers fail on a damaged file")


if __name__ == "__main__":
    carry_out(main)
