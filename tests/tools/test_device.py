"""DEVICE: what it may say, what it decides, and what is said where there is no such GPU."""

import ctypes
import re

import pytest

from tools import device, forward
from tools.cluster import partitions

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
def test_numbers_that_are_none(job, options, command, text, words):
    done = command("tools.train", *options(job | {"--device": text}))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: DEVICE={text} ")
    assert words in done.stderr
    assert not job["--run"].exists()


@pytest.mark.parametrize(
    ("text", "own", "batches"),
    [
        *(("auto", 1, 1), ("cpu", 2, 2), ("gpu:1", 2, 2), ("gpu:0,1", 1, 2)),
        *(("gpu:0,1", 2, 2), ("gpu:0,1,2", 2, 3), ("gpu:0,1", 3, 4)),
    ],
)
def test_batches_in_an_update(text, own, batches):
    assert device.solvers(text, {"solvers": own}) == batches


def test_gpus_that_are_not_there_are_refused(job, options, command):
    done = command("tools.train", *options(job | {"--device": "gpu:0,1,77"}))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    says = "was built for the CPU" if BUILD["device"] == "CPU" else "the driver shows"
    assert says in done.stderr
    assert not job["--run"].exists()


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
    assert command("tools.train", "--check", *several).returncode == 0
    if BUILD["device"] == "CUDA" and len(device.gpus()) > 1:
        other = command("tools.train", *several)
        assert "1 batches an update there, 2 here (DEVICE)" in other.stderr


def test_worker_processes_take_the_gpus_in_turn():
    assert forward.own_gpu(()) is None
    assert forward.own_gpu((3,)) == 3
    with partitions("", 2) as run:
        taken = list(run(forward.own_gpu, [((4, 7),)] * 30))
    assert set(taken) == {4, 7}


def test_advice_knows_cuda_s_own_words():
    if BUILD["device"] == "CPU":
        pytest.skip("Caffe was built without CUDA, whose library has the words")
    cudart = ctypes.CDLL("libcudart.so.11.0")
    cudart.cudaGetErrorString.restype = ctypes.c_char_p
    for number in (2, 35, 100, 209):  # memory, driver, no device, no kernel image
        words = cudart.cudaGetErrorString(number).decode()
        assert device.advice(f"Check failed: error == cudaSuccess ({number} vs. 0)  {words}")
    assert not device.advice("Check failed: axis < num_axes() (4 vs. 2)")
