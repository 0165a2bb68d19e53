"""The pictures of a run's index that are nearest to a picture: `make search QUERY=photo.jpg`."""

import json
from pathlib import Path

from eval.files import write_atomically
from tools.net import engines
from tools.run import child, device
from tools.run.failure import Failure, carry_out, writing
from tools.run.job import read_job, require_codes
from tools.run.variables import whole
from tools.search.answer import counted, table


def main() -> None:
    """Search the index of the job's run for the pictures that are like QUERY."""
    job, values = read_job(
        *(__doc__, "QUERY", "TOP", "CATEGORY", "FINE", "RADIUS", "GRID", "JSON", "ENGINE")
    )
    require_codes(job)
    query, grid = Path(values.query), Path(values.grid) if values.grid else None
    if not query.is_file():
        raise Failure(f"QUERY={values.query}: there is no such picture")
    if grid and not grid.parent.is_dir():
        raise Failure(f"GRID={grid}: there is no such folder")
    gpus, _ = engines.choose(values.engine, job.device)
    log = job.run / "search.log"
    with writing():
        log.unlink(missing_ok=True)  # Caffe says 10 kB each time
    answer, drawn = child.call(
        "tools.search.query.answer_query",
        threads=device.threads(),
        log=log,
        run=job.run,
        data=job.data,
        picture=query,
        top=values.top,
        category=values.category,
        radius=whole("RADIUS", str(values.radius), 0, job.bits) if values.fine else None,
        grid=grid is not None,
        engine=values.engine,
        gpu=gpus[0] if gpus else None,
    )
    if values.json:
        print(json.dumps({"query": str(query)} | answer))
    else:
        print(*table(str(query), answer), sep="\n")
        if values.fine and not answer["neighbours"]:
            print(f"no picture lies within {counted(values.radius, 'bit')}: widen it with RADIUS=")
        print(
            "answered in {total} ms after the net was loaded: index {index}, picture {picture}, "
            "net {net}, search {search}".format(**answer["milliseconds"])
        )
    if grid:
        with write_atomically(grid) as partial:
            partial.write_bytes(drawn)


if __name__ == "__main__":
    carry_out(main)
