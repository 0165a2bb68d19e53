"""The job of a call: defaults by data set, net and method, names of runs, and what is refused."""

import dataclasses
import pickle
from pathlib import Path

import pytest

from data_prep import DataError
from eval.tables import LOSS_TERMS
from tests.tools.run.jobs import make_job, values_of
from tools.run import device
from tools.run.failure import Failure
from tools.run.job import job_of, read_job, require_codes, run_folder, run_name, with_loss


def test_the_default_job():
    job = make_job()
    assert (job.source, job.dataset, job.net.name, job.method.name) == (
        *("mnist", "mnist", "lenet", "ssdh"),
    )
    assert (job.bits, job.iters, job.batch, job.seed, job.subset) == (48, 9000, 64, 42, 0)
    assert (job.device, job.weights, job.images, job.archive) == ("auto", "none", None, None)
    assert job.loss_weights == dict.fromkeys(LOSS_TERMS, 1)
    assert job.data_root == Path("data")
    assert job.data == Path("data/mnist/28x1").resolve()
    assert job.run == Path("runs/mnist-lenet-48").resolve()
    assert job.blobs.code == "latent_sigmoid"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"DATASET": "cifar10"}, {"iters": 50000, "batch": 32, "weights": "caffenet"}),
        ({"METHOD": "kevinnet"}, {"seed": -1}),
        ({"METHOD": "kevinnet", "SEED": "7"}, {"seed": 7}),
        ({"SEED": "0"}, {"seed": 0}),
        ({"METHOD": "finetune"}, {"bits": None, "seed": 42}),
        ({"ITERS": "5", "BATCH": "2", "WEIGHTS": "x.caffemodel"}, {"iters": 5, "batch": 2}),
        ({"SUBSET": "100"}, {"data": Path("data/mnist/28x1-100").resolve()}),
        ({"NET": "alexnet", "DATA_ROOT": "/d"}, {"data": Path("/d/mnist/256x3")}),
        ({"RUNS": "/r", "RUN": "it's (1)"}, {"run": Path("/r/it's (1)")}),
        ({"DATASET": "folder", "IMAGES": "/p/pets"}, {"dataset": "folder-pets"}),
        ({"DATASET": "sun397", "IMAGES": "/p/SUN"}, {"images": Path("/p/SUN")}),
        ({"IMAGES": "list.txt"}, {"images": None}),  # what make codes encodes
        ({"CIFAR10_ARCHIVE": "a.zip"}, {"archive": Path("a.zip")}),
        (
            {"BETA": "0.5"},
            {"loss_weights": dict.fromkeys(LOSS_TERMS, 1) | {"binarization": 0.5}},
        ),
    ],
)
def test_what_variables_decide(given, found):
    job = make_job(**given)
    assert {name: getattr(job, name) for name in found} == found


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "mnist-lenet-48"),
        ({"DATASET": "cifar10", "BITS": "12"}, "cifar10-alexnet-12"),
        ({"METHOD": "kevinnet"}, "mnist-lenet-kevinnet-48"),
        ({"METHOD": "finetune"}, "mnist-lenet-finetune"),
        (
            {"DATASET": "folder", "IMAGES": "/p/my pets/", "NET": "alexnet"},
            "folder-my pets-alexnet-48",
        ),
    ],
)
def test_names_of_runs(given, name):
    job = make_job(**given)
    assert job.run.name == name
    assert run_name(job.dataset, job.net, job.method, job.bits) == name


def test_one_s_own_pictures_go_to_the_net_for_cpus_where_there_is_no_gpu(monkeypatch):
    """Its weights can be had on any machine; and a net that is named is taken anywhere."""
    own = {"DATASET": "folder", "IMAGES": "/p/pets"}
    assert make_job(**own, DEVICE="cpu").run.name == "folder-pets-efficientnet_lite0-48"
    assert make_job(**own, DEVICE="cpu", NET="vgg16").net.name == "vgg16"
    assert make_job(DATASET="cifar10", DEVICE="cpu").net.name == "alexnet"
    monkeypatch.setattr(device, "choose_all", lambda asked: ([0], "GPU"))
    assert make_job(**own).net.name == "alexnet"


def test_a_head_has_its_own_defaults_and_name():
    job = make_job(DATASET="cifar10", HEAD="1")
    assert (job.head, job.batch, job.iters, job.usual_iters) == (True, 100, 5000, 5000)
    assert job.run.name == "cifar10-alexnet-48-head"
    assert make_job(DATASET="cifar10", HEAD="1", ITERS="7").iters == 7
    assert make_job(HEAD="1", WEIGHTS="mine.caffemodel").net.name == "lenet"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"NET": "resnet"}, "NET=resnet is not known; there are alexnet, vgg16"),
        ({"NET": "vgg16", "METHOD": "kevinnet"}, "NET=vgg16 has no METHOD=kevinnet; it has ssdh"),
        ({"METHOD": "dpsh"}, "NET=lenet has no METHOD=dpsh; it has ssdh, kevinnet, finetune"),
        ({"DATASET": "folder"}, "DATASET=folder needs IMAGES=, the folder with its pictures"),
        ({"DATASET": "yahoo1m"}, "DATASET=yahoo1m needs IMAGES="),
        (
            {"METHOD": "kevinnet", "BETA": "2"},
            "BETA=2 has nothing to weigh in METHOD=kevinnet: ALPHA, BETA and GAMMA weigh the "
            "terms of METHOD=ssdh",
        ),
        (
            {"NET": "vgg16", "WEIGHTS": "none"},
            "NET=vgg16 has no fillers, so WEIGHTS=none would leave it all zeros: take its default, "
            "vgg16, or WEIGHTS=path",
        ),
        (
            {"HEAD": "1"},
            "HEAD=1 trains on the features of a net that has learned: NET=lenet starts",
        ),
        ({"RUN": ".."}, "RUN='..' is not a name: the run's folder is RUNS/RUN"),
    ],
)
def test_what_does_not_go_together_is_refused(given, says):
    with pytest.raises(Failure) as refused:
        make_job(**given)
    assert str(refused.value).startswith(says)


def test_a_data_set_that_is_not_known_is_refused():
    with pytest.raises(DataError, match="minst is not known; there are mnist, fashion_mnist"):
        make_job(DATASET="minst")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\nb", "a\x00b", "a\x7fb"])
def test_what_is_no_name_of_a_folder_is_refused(name):
    """clean-run removes that folder: it is never RUNS itself, nor outside of it."""
    with pytest.raises(Failure, match="has no / in it, is not . or .., and can be printed"):
        run_folder(Path("runs"), name)


@pytest.mark.parametrize("name", ["a", "...", ".hidden", "a b", "it's $x `y` ;&()", "é"])
def test_names_of_folders(name):
    assert run_folder(Path("/r"), name) == Path("/r", name)


def test_one_code_length_is_wanted(monkeypatch):
    monkeypatch.setattr("sys.argv", ["tools.train", "--bits", "12 32"])
    with pytest.raises(Failure, match="BITS=12 32: one code length is wanted here"):
        read_job(None)
    monkeypatch.setattr("sys.argv", ["tools.train", "--bits", "12", "--skip", "1"])
    job, values = read_job(None, "SKIP")
    assert (job.bits, values.skip) == (12, True)


def test_a_job_at_each_of_several_lengths():
    values = values_of(BITS="12 32")
    assert [job_of(values, bits).run.name for bits in values.bits] == [
        *("mnist-lenet-12", "mnist-lenet-32"),
    ]


def test_what_needs_codes_refuses_a_method_without():
    require_codes(make_job())
    with pytest.raises(Failure) as refused:
        require_codes(make_job(METHOD="finetune"))
    assert str(refused.value) == (
        "a METHOD=finetune net has no codes, which this needs: take ssdh or kevinnet or cnnh or "
        "cnnh_plus or dnnh"
    )


def test_a_job_goes_to_other_processes_and_is_never_changed():
    job = make_job(BETA="0.5")
    again = pickle.loads(pickle.dumps(job))
    assert again == job and again.loss_weights == job.loss_weights
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.bits = 12


@pytest.mark.parametrize(
    ("asked", "several", "found"),
    [("", False, "softmax"), ("softmax", False, "softmax"), ("", True, "sigmoid")]
    + [(loss, True, loss) for loss in ("sigmoid", "margin1", "margin2")],
)
def test_the_data_decide_the_loss_where_it_is_not_given(asked, several, found):
    job = make_job(LOSS=asked)
    assert with_loss(job, several) == dataclasses.replace(job, loss=found)


def test_a_loss_that_is_not_for_the_data_or_not_known_is_refused():
    with pytest.raises(Failure, match="LOSS=margin2 is not for mnist, whose pictures have one lab"):
        with_loss(make_job(LOSS="margin2"), False)
    with pytest.raises(Failure, match="LOSS=hinge is not known; there are softmax, sigmoid, mar"):
        make_job(LOSS="hinge")
