"""The pictures of a run's index that are nearest to a picture: `make search QUERY=photo.jpg`."""

from pathlib import Path

from tools.run import child as caffe_process
from tools.run import device
from tools.run.job import parser, resolve, stop, whole


def main():
    p = parser(__doc__)
    p.add_argument("--query", default="")
    p.add_argument("--top", default="10")
    p.add_argument("--category", default="", help="a class name: search its pictures alone")
    p.add_argument("--fine", default="", help="not empty: the second stage, by features")
    p.add_argument("--radius", default="2", help="of the second stage's candidates, in bits")
    p.add_argument("--grid", default="", help="a PNG to draw the pictures into")
    p.add_argument("--json", default="", help="not empty: print JSON")
    args = p.parse_args()
    job = resolve(args)
    if job["method"] == "finetune":
        stop("a METHOD=finetune net has no codes to search by: take ssdh or kevinnet")
    if not Path(args.query).is_file():
        stop(f"QUERY={args.query}: there is no such picture")
    if args.grid and not Path(args.grid).parent.is_dir():
        stop(f"GRID={args.grid}: there is no such folder")
    gpu, _ = device.choose(job["device"])
    arguments = [str(job["run"]), str(job["data"]), args.query]
    arguments += ["--top", str(whole("TOP", args.top, 1, 10000)), "--category", args.category]
    arguments += ["--gpu", str(gpu)] if gpu is not None else []
    if args.fine:
        arguments += ["--radius", str(whole("RADIUS", args.radius, 0, job["bits"]))]
    arguments += ["--grid", args.grid] if args.grid else []
    arguments += ["--json"] if args.json else []
    caffe_process.run(
        "tools.search.query", arguments, device.threads(job["spec"]), job["run"] / "search.log"
    )


if __name__ == "__main__":
    main()
