"""The Python that forks commands for tools/faults/forks.py.

    python -m tools.faults.forker

loads LIBRARIES, reads requests from stdin, a line of JSON each, and forks for each a process that
is from there on what `python -m module arguments` would be: in a session of its own, with cores, an
environment, a stdout and a stderr of its own. All that is of this repository is imported there. It
answers on stdout with two numbers of four bytes a request: the process's id, and the status at its
end.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
import threading
import time
from pathlib import Path

LIBRARIES = (
    *(
        "numpy",
        "h5py",
        "cv2",
        "lmdb",
        "tqdm",
        "numba",
        "scipy.linalg",
        "sklearn.datasets",
        "PIL.Image",
    ),
    *("matplotlib.backends.backend_agg", "jinja2", "faiss", "google.protobuf.text_format", "onnx"),
    *("onnxruntime", "multiprocessing.pool", "concurrent.futures.process", "requests"),
    *("sklearn.metrics", "matplotlib.backends.backend_svg", "matplotlib.figure"),
)


def serve() -> dict | None:
    """Fork for each request, and return it in the process that was forked; None at their end."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in iter(sys.stdin.buffer.readline, b""):
        pid = os.fork()
        if not pid:
            os.setsid()
            os.close(answers)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return json.loads(line)
        while os.getsid(pid) != pid:  # until then a kill of its group would be one of ours
            time.sleep(0.001)
        os.write(answers, pid.to_bytes(4, sys.byteorder))
        os.write(answers, os.waitpid(pid, 0)[1].to_bytes(4, sys.byteorder))
    return None


def become(request: dict) -> None:
    """Run a request's command in this process."""
    os.sched_setaffinity(0, request["cores"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for stream, name in enumerate(("stdout", "stderr"), 1):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, stream)
        os.close(file)
    runpy.run_path(str(Path(__file__).with_name("hook") / "sitecustomize.py"))
    module, *sys.argv[1:] = request["arguments"]
    sys.orig_argv = [sys.executable, "-m", *request["arguments"]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def leave(code: object) -> None:
    """End this process as sys.exit(code) does, without taking all that was loaded apart."""
    threading._shutdown()
    atexit._run_exitfuncs()
    if not (code is None or isinstance(code, int)):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # else each command, as it ends, looks through all of it, which copies its pages
    if asked := serve():
        try:
            become(asked)
        except SystemExit as end:
            leave(end.code)
        leave(0)
