"""One trial: a stage that is disturbed, then called again as if nothing had happened.

A trial is decided by its seed, its stage, its kind and its number, and so can be repeated.
"""

import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import h5py

from tools.faults.forks import Forks
from tools.faults.stages import Stage, arguments
from tools.net import weights
from tools.run.failure import FAMILY, Failure
from tools.run.job import REPO

HERE = Path(__file__).parent
KINDS = {"kill": 15, "call": 15, "full": 10, "eio": 5, "read-only": 5}  # and how many of a stage
LONGEST, TIMES = 180, 20  # a command hangs beyond so many seconds, and times what it takes
PIECE = (
    1  # second: a wait is made of these, so that one in which this process is stopped counts once
)
SIZE = "1g"  # of the disk that a place is on
ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "GLOG_minloglevel": "0",
    "OPENBLAS_NUM_THREADS": "1",
}


class Room(NamedTuple):
    """What one trial at a time has for itself, beside the templates in `base`, which all read.

    place: the folder that is disturbed, on a disk of its own for the kinds full and read-only.
    scratch: a folder for what is counted, and for temporary files. shim: the library of shim.c.
    forks: starts commands.
    """

    place: Path
    base: Path
    scratch: Path
    shim: Path
    forks: Forks | None = None

    @classmethod
    def new(cls, folder: Path, base: Path, shim: Path, forks: Forks | None = None) -> Self:
        """Return the room in a folder, made where it is not there."""
        room = cls(folder / "place", base, folder / "scratch", shim, forks)
        for path in (room.place, room.temporary):
            path.mkdir(parents=True, exist_ok=True)
        return room

    @property
    def temporary(self) -> Path:
        """Return the folder for temporary files, in which the killed leave theirs."""
        return self.scratch / "tmp"

    def counter(self, name: str, content: bytes) -> str:
        """Return the path of a file that calls are counted in, which begins with some content."""
        path = self.scratch / name
        path.write_bytes(content)
        return str(path)


class Ended(NamedTuple):
    """How a command ended: its exit code, None where it was killed here, and its stderr.

    left: the processes that outlived it.
    """

    code: int | None
    said: str
    left: list[int]


@dataclass
class Normal:
    """What a stage does where nothing disturbs it.

    calls: renames and fsyncs that Python calls. writes: what the shim covers. size: bytes that come
    to the place.
    """

    seconds: float
    calls: int
    writes: int
    size: int
    result: object

    @property
    def patience(self) -> float:
        """Return the seconds after which the stage hangs, on a machine that may be busy."""
        return max(LONGEST, TIMES * self.seconds)


@dataclass
class Outcome:
    """What became of a trial; wrong: sentences, none where all is well."""

    disturbed: bool
    well: bool
    equal: bool
    clean: bool
    wrong: list[str]


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Put a small disk under a folder; yield whether that was possible (root alone can)."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def compile_shim(folder: Path) -> Path:
    """Return the library that makes writes fail, compiled by gcc into a folder."""
    library = folder / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "shim.c"), "-ldl"]
    if not shutil.which("gcc"):
        raise Failure("there is no gcc, which compiles tools/faults/shim.c: install it")
    subprocess.run(command, check=True)
    return library


def start_from(stage: Stage, room: Room) -> None:
    """Make a room's place what the stage starts from."""
    for left in [*room.place.iterdir(), *room.temporary.iterdir()]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    shutil.copytree(room.base / stage.start, room.place, dirs_exist_ok=True, symlinks=True)


def call(
    arguments: Sequence[str], room: Room, seconds: float = LONGEST, **environment: str
) -> Ended:
    """Run `python -m` arguments in a session of its own; kill all of that after some seconds.

    Seconds that this process is stopped for do not count.
    """
    paths = [str(HERE / "hook"), os.environ.get("PYTHONPATH", "")]
    own = {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "TMPDIR": str(room.temporary),
    }
    variables = os.environ | ENVIRONMENT | own | environment
    stderr = room.scratch / "stderr"
    if "LD_PRELOAD" in environment:
        process = start(arguments, variables, stderr)
    else:
        process = room.forks.start(arguments, variables, stderr)
    killed = False
    while process.returncode is None:
        piece = None if killed else min(seconds, PIECE)
        try:
            process.wait(piece)
        except subprocess.TimeoutExpired:
            seconds -= piece
            if seconds <= 0:
                os.killpg(process.pid, signal.SIGKILL)
                killed = True
    code = None if killed and process.returncode == -signal.SIGKILL else process.returncode
    left = wait_for_session(process.pid)
    return Ended(code, stderr.read_text(errors="replace"), left)


def start(arguments: Sequence[str], environment: dict[str, str], stderr: Path) -> subprocess.Popen:
    """Start what forks.Forks.start does, in a Python of its own."""
    with open(stderr, "wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=REPO,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )


def wait_for_session(session: int, seconds: float = 10) -> list[int]:
    """Return the processes of a session that still live after some seconds; kill them."""
    until = time.monotonic() + seconds
    while left := in_session(session):
        if time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(0.05)
    return []


def in_session(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def undisturbed(stage: Stage, room: Room) -> Normal:
    """Return what a stage does where nothing disturbs it; raise Failure where it fails so.

    How long it takes is that of a forked command, as those are that are killed at a random moment;
    its writes are counted in one that is started, as those are whose writes fail.
    """
    start_from(stage, room)
    calls, writes = room.counter("calls", b""), room.counter("writes", bytes(4))
    before = size_of(room.place)
    started = call(
        arguments(stage, room.place, room.base),
        room,
        TIMES * LONGEST,
        SSDH_FAULT_CALLS=calls,
        **breaking(room, writes, 2**31 - 1),
    )
    size = size_of(room.place) - before
    start_from(stage, room)
    began = time.monotonic()
    forked = call(arguments(stage, room.place, room.base), room, TIMES * LONGEST)
    seconds = time.monotonic() - began
    for ended in (forked, started):
        if ended.code != 0:
            raise Failure(f"{stage.name} fails by itself: {ended.said[-500:]}")
    return Normal(
        seconds=seconds,
        calls=Path(calls).stat().st_size,
        writes=int.from_bytes(Path(writes).read_bytes(), sys.byteorder),
        size=max(1, size),
        result=stage.result(room.place),
    )


def breaking(room: Room, counter: str, after: int) -> dict[str, str]:
    """Return the variables by which writes below a room's place fail after so many of them."""
    return {
        "LD_PRELOAD": str(room.shim),
        "SSDH_EIO_BELOW": str(room.place),
        "SSDH_EIO_COUNTER": counter,
        "SSDH_EIO_AFTER": str(after),
    }


def size_of(place: Path) -> int:
    """Return the bytes that the files in a place take."""
    return sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())


def attempt(
    stage: Stage, kind: str, number: int, seed: int, *, normal: Normal, room: Room
) -> Outcome:
    """Disturb a stage once, call it again, and look at what is there."""
    choice = random.Random(f"{seed} {stage.name} {kind} {number}")
    start_from(stage, room)
    place = room.place
    command = arguments(stage, place, room.base)
    began = time.monotonic()
    first = disturb(kind, command, choice, normal=normal, room=room)
    while kind == "kill" and first.code == 0:  # it ended before it was to be killed
        normal = replace(normal, seconds=min(normal.seconds, time.monotonic() - began))
        start_from(stage, room)
        began = time.monotonic()
        first = disturb(kind, command, choice, normal=normal, room=room)
    wrong = [] if kind in ("kill", "call") else judge(first.code, first.said)
    wrong += [f"after the {kind}: {sentence}" for sentence in half_written(place)]
    again = call(command, room, normal.patience)
    settled = again.code == 1 and bool(stage.settled) and stage.settled in again.said
    well = again.code == 0 or settled
    if not well:
        wrong.append(f"the same command then ended with {again.code}: {again.said.strip()[-300:]}")
    equal = well
    if well:
        try:
            equal = stage.result(place) == normal.result
        except (OSError, KeyError, *FAMILY) as error:
            equal = False
            wrong.append(f"its result cannot be read: {error}")
        if not equal:
            wrong.append("the result differs from an undisturbed one")
    left = [*half_written(place), *left_over(place)] if well else []
    left += [f"a process outlives the command: {pid}" for pid in (*first.left, *again.left)]
    wrong += left
    return Outcome(first.code != 0, well, equal or not stage.equal, not left, wrong)


def disturb(
    kind: str, command: Sequence[str], choice: random.Random, *, normal: Normal, room: Room
) -> Ended:
    """Run a command under a fault."""
    if kind == "kill":
        return call(command, room, choice.uniform(0.05, 1) * normal.seconds)
    if kind == "call":
        at = str(choice.randint(1, max(1, normal.calls)))
        calls = {"SSDH_FAULT_CALLS": room.counter("calls", b""), "SSDH_FAULT_AT": at}
        return call(command, room, normal.patience, **calls)
    if kind == "eio":
        after = choice.randrange(max(1, normal.writes))
        counter = room.counter("writes", bytes(4))
        return call(command, room, normal.patience, **breaking(room, counter, after))
    if kind == "full":
        filler = room.place / ".filler"
        fill(filler, int(choice.uniform(0, 0.95) * normal.size))
        try:
            return call(command, room, normal.patience)
        finally:
            filler.unlink()
    with read_only(room.place):
        return call(command, room, normal.patience)


def fill(filler: Path, leave: int) -> None:
    """Leave so many bytes free on the disk that a file is on."""
    state = os.statvfs(filler.parent)
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - leave))


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let nobody write on a place's disk."""
    remount = ["mount", "-o", "remount,ro", str(place)]
    subprocess.run(remount, check=True)
    try:
        yield
    finally:
        subprocess.run([*remount[:2], "remount,rw", str(place)], check=True)


def judge(code: int | None, said: str) -> list[str]:
    """Return what is wrong with how a command that met a fault ended."""
    if code is None:
        return [f"it hangs under the fault, for minutes: {said.strip()[-200:]}"]
    wrong = []
    if code not in (0, 1):
        wrong.append(f"it ended with {code} under the fault: {said.strip()[-300:]}")
    if "Traceback" in said:
        wrong.append(f"a traceback under the fault: {said.strip()[-400:]}")
    if code == 1 and not re.search(r"^(error|data_prep): ", said, re.MULTILINE):
        wrong.append(f"no sentence under the fault: {said.strip()[-300:]!r}")
    if re.search(r"without a word|Check failed|died of SIG", said):
        wrong.append(f"a process died under the fault: {said.strip()[-300:]}")
    return wrong


def half_written(place: Path) -> list[str]:
    """Return sentences on files that have their final names and are not whole."""
    wrong = []
    for path in sorted(place.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if hidden or "partial" in str(path.relative_to(place)) or not path.is_file():
            continue
        try:
            check_whole(path)
        except (OSError, KeyError, ValueError, *FAMILY) as error:
            wrong.append(f"{path.relative_to(place)} is half written: {error}")
    return wrong


def check_whole(path: Path) -> None:
    """Raise an error where a file of this repository's making is not whole."""
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            file.visititems(lambda _, item: None)
    elif path.suffix == ".caffemodel":
        weights.read(path)
    elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise Failure("it has no end")


def left_over(place: Path) -> list[str]:
    """Return sentences on what a command that ended well has left: parts of files, and locks."""
    found = [
        f"{path.relative_to(place)} is left over"
        for path in sorted(place.rglob("*"))
        if "partial" in path.name or path.name.endswith((".tmp", "-room"))
    ]
    for path in [place, *place.rglob("*")]:
        if not (path.is_dir() or "lock" in path.name):
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            found.append(f"{path.relative_to(place)} is still locked")
        finally:
            os.close(handle)
    return found
