"""Pictures of one's own into a run's index: `make index ADD=picture or folder`."""

import os
from pathlib import Path

from data_prep.class_folders import is_picture
from data_prep.files import walk
from tools.run import child as caffe_process
from tools.run import device
from tools.run.job import parser, resolve, stop


def pictures_of(path):
    """Return the picture files of a path, itself or those below it, absolute and sorted."""
    if not path.exists():
        stop(f"ADD={path}: there is no such file or folder")
    below = walk(path) if path.is_dir() else [path]
    files = sorted({Path(os.path.realpath(file)) for file in below if is_picture(file.name)})
    if not files:
        stop(f"ADD={path}: there is no picture")
    for file in files:
        try:
            os.fspath(file).encode()
        except UnicodeEncodeError:
            stop(f"{os.fsencode(file)}: its name is not UTF-8, as a key must be: rename it")
    return files


def main():
    p = parser(__doc__)
    p.add_argument("--add", required=True, type=Path)
    p.add_argument("--label", default="", help="the class of the added pictures")
    args = p.parse_args()
    job = resolve(args)
    pictures_of(args.add)
    gpu, _ = device.choose(job["device"])
    arguments = [str(job["run"]), str(args.add), "--label", args.label]
    arguments += ["--gpu", str(gpu)] if gpu is not None else []
    threads = device.threads(job["spec"])
    caffe_process.run("tools.search.add_child", arguments, threads, job["run"] / "index.log")


if __name__ == "__main__":
    main()
