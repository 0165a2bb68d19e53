"""A run's folder: its rendered prototxt, its fingerprint and its run.json.

The fingerprint covers what decides the trained weights and nothing else: the rendered prototxt
(seed included; paths, comments and max_iter left out), the starting weights, and the data's
contents.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from data_prep.files import file_digest
from eval.files import InputError, read_json, write_atomically
from tools.net import render
from tools.run.job import REPO, stop

SETTINGS = ("dataset", "net", "method", "bits", "seed", "batch", "subset", "alpha", "beta", "gamma")


def sha256_of_text(text):
    """Return the SHA-256 of a text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def render_job(job, manifest, data, folder, iters):
    """Return {file name: text} of the job's prototxt with the given paths and max_iter."""
    values = {key: job[key] for key in ("bits", "batch", "seed", "alpha", "beta", "gamma")}
    values |= {"classes": len(manifest["classes"]), "data": data, "folder": folder}
    return render.render(job["net"], values | {"iters": iters}, job["method"])


def fingerprint(job, manifest, weights_sha256, solvers):
    """Return {"sha256": ..., "parts": {name: SHA-256}}.

    weights_sha256 may be "none"; solvers is the number of batches in an update.
    """
    parts = {}
    for name, text in render_job(job, manifest, "data", "run", 0).items():
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        parts[name] = sha256_of_text("\n".join(line for line in lines if line))
    parts["weights"] = weights_sha256
    parts["solvers"] = str(solvers)
    contents = {key: manifest[key] for key in ("lmdb_sha256", "mean", "classes")}
    parts["data"] = sha256_of_text(json.dumps(contents, sort_keys=True))
    return {"sha256": sha256_of_text(json.dumps(parts, sort_keys=True)), "parts": parts}


def net_fingerprint(record, caffemodel):
    """Return what tells a trained net from any other: its run's mark and its weights' SHA-256."""
    return f"{record['fingerprint']['sha256'][:16]}-{file_digest(caffemodel, 'sha256')[:16]}"


def settings(job):
    """Return the job's variables as run.json keeps them."""
    return {key: job[key] for key in (*SETTINGS, "weights", "iters", "device")}


def record_of(folder):
    """Return run.json of a run's folder; InputError where it is missing or damaged."""
    needed = ("settings", "fingerprint")
    return read_json(Path(folder) / "run.json", needed, "'make clean-run' and 'make train'")


def read(folder):
    """Return run.json of a run's folder, {} where there is none; stop where it is damaged."""
    try:
        return record_of(folder) if (Path(folder) / "run.json").exists() else {}
    except InputError as error:
        stop(str(error))


def write(folder, record):
    """Write run.json."""
    with write_atomically(Path(folder) / "run.json") as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n")


def add_stage(folder, name, seconds):
    """Add to a stage's seconds in run.json."""
    record = read(folder)
    stages = record.setdefault("stages", {})
    stages[name] = round(stages.get(name, 0) + seconds, 1)
    write(folder, record)


def check_same(job, mark):
    """Stop where the run's folder holds a run with another fingerprint; name what differs."""
    there = read(job["run"])
    if not there or there["fingerprint"] == mark:
        return
    asked = settings(job)
    kept = {"method": "ssdh"} | there["settings"]  # runs from before there was METHOD
    differs = [
        f"{key.upper()}={kept.get(key)} there, {key.upper()}={asked[key]} here"
        for key in (*SETTINGS, "weights")
        if kept.get(key) != asked[key]
    ]
    if not differs:
        parts, here = there["fingerprint"]["parts"], mark["parts"]
        differs = [
            f"{parts[key]} batches an update there, {here[key]} here (DEVICE)"
            if key == "solvers"
            else f"the {key} has changed"
            for key in parts
            if parts[key] != here.get(key)
        ]
    stop(
        f"{job['run']} holds another run ({'; '.join(differs)}). "
        "Give this one a name with RUN=name, or remove that one with 'make clean-run'"
    )


def machine():
    """Return what run.json says of the machine."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def git_commit():
    """Return the repository's commit, "+changes" behind it where files differ.

    An image has no repository: there it is what the build said, SSDH_COMMIT, or "unknown".
    """
    git = ["git", "-C", str(REPO)]
    head = [*git, "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SSDH_COMMIT", "unknown")
    return commit + ("+changes" if dirty else "")


def command():
    """Return the command line that made this run, as the person gave it where make tells it."""
    return os.environ.get("SSDH_COMMAND") or shlex.join(sys.orig_argv)
