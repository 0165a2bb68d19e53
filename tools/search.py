"""The pictures of a run's data set that are nearest to a picture: `make search QUERY=photo.jpg`."""

from pathlib import Path

from tools import caffe_process, device
from tools.job import parser, resolve, stop, whole


def main():
    p = parser(__doc__)
    p.add_argument("--query", default="")
    p.add_argument("--top", default="10")
    args = p.parse_args()
    job = resolve(args)
    if job["method"] == "finetune":
        stop("a METHOD=finetune net has no codes to search by: take ssdh or kevinnet")
    if not Path(args.query).is_file():
        stop(f"QUERY={args.query}: there is no such picture")
    gpu, _ = device.choose(job["device"])
    arguments = [str(job["run"]), args.query, "--top", str(whole("TOP", args.top, 1, 10000))]
    arguments += ["--gpu", str(gpu)] if gpu is not None else []
    caffe_process.run(
        "tools.search_loop", arguments, device.threads(job["spec"]), job["run"] / "search.log"
    )


if __name__ == "__main__":
    main()
