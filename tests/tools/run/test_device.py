"""DEVICE: what it may say, what it decides, and what is said where there is no such GPU."""

import ctypes
import dataclasses
import os
import re

import pytest

from tools.codes.partition import own_gpu
from tools.run import device
from tools.run.cluster import partitions
from tools.run.failure import Failure
from tools.run.nets import nets
from tools.setup.gpu_facts import describe

BUILD = device.build()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("auto", []), ("cpu", []), ("gpu", [0]), ("gpu:3", [3]), ("gpu:0,1", [0, 1])],
)
def test_numbers(text, numbers):
    assert device.numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tpu", "is not known: auto, cpu, gpu:N or gpu:N,M,..."),
        ("gpu:0,", "is not known"),
        ("gpu:-1", "is not known"),
        ("gpu:0;1", "is not known"),
        ("cpu:0,1", "is not known"),
        ("gpu:0,1,0", "names a GPU twice"),
    ],
)
def test_numbers_that_are_none(job, options, command, text, words, folder_of):
    done = command("tools.train", *options(job | {"--device": text}))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: DEVICE={text} ")
    assert words in done.stderr
    assert not folder_of(job).exists()


@pytest.mark.parametrize(
    ("text", "own", "batches"),
    [
        *(("auto", 1, 1), ("cpu", 2, 2), ("gpu:1", 2, 2), ("gpu:0,1", 1, 2)),
        *(("gpu:0,1", 2, 2), ("gpu:0,1,2", 2, 3), ("gpu:0,1", 3, 4)),
    ],
)
def test_batches_in_an_update(text, own, batches):
    assert device.solvers(text, dataclasses.replace(nets()["lenet"], solvers=own)) == batches


def test_gpus_that_are_not_there_are_refused(job, options, command, folder_of):
    done = command("tools.train", *options(job | {"--device": "gpu:0,1,77"}))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    says = "was built for the CPU" if BUILD["device"] == "CPU" else "the driver shows"
    assert says in done.stderr
    assert not folder_of(job).exists()


LISTING = """GPU 0: Tesla V100-SXM2-16GB (UUID: GPU-aaaa1111)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222)
  MIG 1g.5gb      Device  0: (UUID: MIG-cccc3333)
GPU 2: Tesla P100-PCIE-16GB (UUID: GPU-dddd4444)
"""
OLD_DRIVER = 'Field "compute_cap" is not a valid field to query.'


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Stand three GPUs in for none: nvidia-smi's own words, which a machine without one lacks."""
    rows = "".join(
        f"{uuid}, {name}, 470.82.01, 16384 MiB\n"
        for name, uuid in re.findall(r"^GPU \d: (.*) \(UUID: (.*)\)", LISTING, re.M)
    )
    script = tmp_path / "nvidia-smi"
    script.write_text(
        f"#!/bin/sh\ncase $* in -L) printf %s '{LISTING}' ;; *compute_cap*) echo '{OLD_DRIVER}'; "
        f"exit 2 ;; *) printf %s '{rows}' ;; esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["GPU 0", "GPU 1", "GPU 2"]),
        ("", []),
        ("2,0", ["GPU 2", "GPU 0"]),
        ("1,7,0", ["GPU 1"]),
        ("GPU-dddd, GPU-aaaa1111", ["GPU 2", "GPU 0"]),
        ("MIG-cccc3333", ["MIG 1g.5gb      Device  0"]),
        ("-1", []),
    ],
)
@pytest.mark.usefixtures("smi")
def test_the_gpus_that_cuda_shows(monkeypatch, visible, names):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [line.partition(":")[0] for line in device.gpus()] == names


@pytest.mark.usefixtures("smi")
def test_gpu_check_describes_the_gpus_that_cuda_shows(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,MIG-cccc3333")
    assert describe([0, 1], device.gpus()) == [
        "GPU 0: Tesla P100-PCIE-16GB, 16384 MiB, driver 470.82.01",
        "GPU 1: MIG 1g.5gb      Device  0: (UUID: MIG-cccc3333)",
    ]


def test_auto_falls_back_to_the_cpu_and_says_so(job, options, command):
    if BUILD["device"] == "CUDA" and device.gpus():
        pytest.skip("there is a GPU")
    done = command("tools.train", *options(job | {"--device": "auto", "--iters": 1}))
    assert done.returncode == 0, done.stderr
    assert re.search(r"on: CPU \((this Caffe was built without|no GPU is visible)", done.stdout)


def test_a_run_of_several_gpus_is_another_run_but_its_later_stages_are_not(
    trained, options, command
):
    several = options(trained | {"--device": "gpu:0,1"})
    assert command("tools.stages", "trained", *several).returncode == 0
    if BUILD["device"] == "CUDA" and len(device.gpus()) > 1:
        other = command("tools.train", *several)
        assert "1 batches an update there, 2 here (DEVICE)" in other.stderr


def test_worker_processes_take_the_gpus_in_turn():
    assert own_gpu(()) is None
    assert own_gpu((3,)) == 3
    with partitions("", 2) as run:
        taken = list(run(own_gpu, [((4, 7),)] * 30))
    assert set(taken) == {4, 7}


@pytest.mark.parametrize(
    ("words", "todo"),
    [
        ("status == CUBLAS_STATUS_SUCCESS (1 vs. 0)  CUBLAS_STATUS_NOT_INITIALIZED", "memory"),
        ("status == CUBLAS_STATUS_SUCCESS (3 vs. 0)  CUBLAS_STATUS_ALLOC_FAILED", "BATCH="),
        ("status == CUDNN_STATUS_SUCCESS (1 vs. 0)  CUDNN_STATUS_NOT_INITIALIZED", "memory"),
        ("result == ncclSuccess (2 vs. 0)  unhandled system error", "--shm-size=1g"),
    ],
)
def test_advice_on_what_the_libraries_say(words, todo):
    assert todo in device.advice(f"Check failed: {words}")


def test_advice_knows_cuda_s_own_words():
    if BUILD["device"] == "CPU":
        pytest.skip("Caffe was built without CUDA, whose library has the words")
    cudart = ctypes.CDLL("libcudart.so.11.0")
    cudart.cudaGetErrorString.restype = ctypes.c_char_p
    # memory, driver, no device, no such number, no kernel image, PTX of a newer CUDA
    for number in (2, 35, 100, 101, 209, 222):
        words = cudart.cudaGetErrorString(number).decode()
        assert device.advice(f"Check failed: error == cudaSuccess ({number} vs. 0)  {words}")
    assert not device.advice("Check failed: axis < num_axes() (4 vs. 2)")


def test_threads_are_the_cores_of_the_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(device, "_quotas", lambda root: [1e9])
    assert device.threads() == 64
    monkeypatch.setattr(device, "_quotas", lambda root: [1e9, 2.5])
    assert device.threads() == 2
    monkeypatch.setattr(device, "_quotas", lambda root: [0.5, 1e9])
    assert device.threads() == 1


@pytest.mark.parametrize(
    ("groups", "files", "quotas"),
    [
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, [1.5]),
        ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "400000 100000"}, [0.5, 4]),
        ("0::/elsewhere", {"cpu.max": "300000 100000"}, [3]),
        (
            "3:memory:/a\n2:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"},
            [2],
        ),
        ("2:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, []),
        ("0::/", {}, []),
    ],
)
def test_quotas_of_cgroups(tmp_path, groups, files, quotas):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert device._quotas(tmp_path)[1:] == quotas


def test_the_engine(monkeypatch):
    monkeypatch.delenv("CAFFE_ENGINE", raising=False)
    for built in ({"engine": "dnnl"}, {"engine": "caffe"}, {}):  # {}: from before there were two
        monkeypatch.setattr(device, "build", lambda built=built: built)
        assert device.engine() == built.get("engine", "caffe")
    monkeypatch.setenv("CAFFE_ENGINE", "caffe")
    assert device.engine() == "caffe"
    monkeypatch.setenv("CAFFE_ENGINE", "dnnl")
    with pytest.raises(Failure, match="was built without oneDNN"):
        device.engine()
    monkeypatch.setattr(device, "build", lambda: {"engine": "dnnl"})
    assert device.engine() == "dnnl"
    monkeypatch.setenv("CAFFE_ENGINE", "mkl")
    with pytest.raises(Failure, match="CAFFE_ENGINE=mkl is not known: dnnl or caffe"):
        device.engine()
