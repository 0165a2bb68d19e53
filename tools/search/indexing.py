"""The search index of a trained run, made, grown and shrunk: `make index`.

REMOVE takes pictures out, by their keys; ADD puts pictures in, of the class LABEL, or of several.
"""

from pathlib import Path

import numpy as np

from tools.net import engines
from tools.run import child, device
from tools.run.failure import Failure, carry_out
from tools.run.job import Job, read_job, require_codes
from tools.search.added import pictures_of
from tools.search.answer import counted
from tools.search.faiss_index import KINDS
from tools.search.index import Index, create, labels_of, open_index, remove


def main() -> None:
    """Make the index of the job's run where it is not there, and change it as was asked."""
    job, values = read_job(__doc__, "INDEX", "REMOVE", "ADD", "LABEL", "ENGINE")
    require_codes(job)
    if values.index and values.index not in KINDS:
        raise Failure(f"INDEX={values.index} is not known: {', '.join(KINDS)}")
    index = create(job.run, values.index)
    if values.remove:
        count = remove(job.run, keys_of(values.remove))
        print(f"removed {counted(count, 'picture')}")
    if values.add:
        add_files(job, index, Path(values.add), values.label, values.engine)
    index = open_index(job.run)
    size = sum(path.stat().st_size for path in job.run.glob("index*"))
    pictures = counted(np.count_nonzero(~index.removed), "picture")
    print(
        f"index: {job.run / 'index.h5'}, {index.kind}, {pictures} of {counted(index.bits, 'bit')}, "
        + (f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB")
    )


def keys_of(text: str) -> list[str]:
    """Return the keys that REMOVE names: one, or those in @FILE, a key a line."""
    if not text.startswith("@"):
        return [text]
    if Path(text[1:]).exists() and not Path(text[1:]).is_file():
        raise Failure(f"REMOVE={text}: not a list, a key a line")
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Failure(f"REMOVE={text}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"REMOVE={text}: not a list in UTF-8, a key a line") from None
    return [line for line in lines if line.strip()]


def add_files(job: Job, index: Index, path: Path, label: str, engine: str) -> None:
    """Add the pictures of a path to the job's index, which is open, and say how many they were."""
    files = pictures_of(path)
    number = labels_of(index, label, "LABEL")
    gpus, _ = engines.choose(engine, job.device)
    replaced = child.call(
        "tools.search.adding.add_pictures",
        threads=device.threads(),
        log=job.run / "index.log",
        run=job.run,
        data=job.data,
        files=files,
        label=number,
        engine=engine,
        gpu=gpus[0] if gpus else None,
    )
    pictures = np.count_nonzero(~open_index(job.run).removed)
    print(
        f"added {counted(len(files), 'picture')}, {replaced} of them in place of older ones: "
        f"{counted(pictures, 'picture')} now"
    )


if __name__ == "__main__":
    carry_out(main)
