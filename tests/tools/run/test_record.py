"""run.json and the fingerprint: what decides a result, and how runs tell each other apart."""

import json

import pytest

from data_prep.files import file_digest
from eval.files import InputError
from tests.tools.run.jobs import make_job
from tools.net import render
from tools.run import device, record
from tools.run.failure import Failure
from tools.run.job import REPO, with_loss

MANIFEST = {
    "lmdb_sha256": {"train": "11", "test": "22"},
    "mean": "train",
    "classes": ["0", "1"],
    "counts": {"train": 4, "test": 2},  # decides nothing
}


@pytest.fixture
def data(tmp_path):
    """A data folder with a mean image, as far as a fingerprint looks at it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "mean.binaryproto").write_bytes(b"mean")
    return folder


@pytest.fixture
def fingerprint(data):
    """The fingerprint of a job on that data, with some parts changed."""

    def of(job, manifest=MANIFEST, weights_sha256="none", solvers=1, engine="caffe", **more):
        files = render.render_job(
            job, classes=len(manifest["classes"]), data="data", run="run", iters=0
        )
        return record.fingerprint_of(
            files,
            data,
            manifest,
            weights_sha256=weights_sha256,
            solvers=solvers,
            engine=engine,
            **more,
        )

    return of


def test_a_fingerprint_by_its_literal_values(fingerprint):
    """Those of runs that are there: a change of these texts makes them runs of something else."""
    found = fingerprint(make_job(DATASET="digits", BITS="16"))
    mean = "82523faea1b0f2da676a0561d597000bb6918036c6e541dc1145966141864332"
    assert found["parts"] == {
        "train_val.prototxt": "888f9a6ffffb6fc28bb2035cc8cbd08f97b868a50d6cc28adbd34e70aa2a9035",
        "deploy.prototxt": "899e6c1ea0da9a0004d63db671de0e806872bfed28dcc6d16959bde934768b09",
        "solver.prototxt": "bdc313e7c2cf6e1450f6e7f233c055af7ae03ed2328cb258a03259fad2572893",
        "weights": "none",
        "solvers": "1",
        "data": "161f829c59d37166e3c875c88d4ce4d11aa9eb3b4dfe436ff26327396c3eb75f",
        "mean": mean,
        "caffe": "99bd99795dcdf0b1d3086a8d67ab1782a8a08383",
        "ssdh_losses.py": file_digest(REPO / "python_layers/ssdh_losses.py", "sha256"),
    }
    kevinnet = fingerprint(make_job(DATASET="cifar10", METHOD="kevinnet"))
    assert {name: kevinnet["parts"][name] for name in render.FILES} == {
        "train_val.prototxt": "8eb18341d7e8e8e6c66bf8860a7af94133abb06b6c07cabe2dd9964a2a64dc57",
        "deploy.prototxt": "54711bc97f498ed5d37f1655c0b44d4c21629e7006fc362fdc3289efd837ccf1",
        "solver.prototxt": "228b4a4c798e7ee92cc9b329991b3724e1c2aed86bdf9c52555546bf82fe4832",
    }
    assert "ssdh_losses.py" not in kevinnet["parts"]  # it has no Python layer
    for method in ("cnnh", "cnnh_plus"):
        parts = fingerprint(make_job(DATASET="cifar10", METHOD=method))["parts"]
        assert parts["stage_one.py"] == file_digest(REPO / "tools/train/stage_one.py", "sha256")
    assert "dnnh_layers.py" in fingerprint(make_job(DATASET="cifar10", METHOD="dnnh"))["parts"]
    assert kevinnet["sha256"] == (
        "cf05436e039fa22ebff1e3768385459c39fc9895bb2153eccff99cd0d77e7130"
    )


def test_what_decides_and_what_does_not(fingerprint, data):
    job = make_job(DATASET="digits", BITS="16")
    first = fingerprint(job)
    for same in ({"ITERS": "7"}, {"DEVICE": "cpu"}, {"RUN": "other"}, {"DATA_ROOT": "elsewhere"}):
        assert fingerprint(make_job(DATASET="digits", BITS="16", **same)) == first
    assert fingerprint(job, MANIFEST | {"counts": None}) == first
    for part, other in (
        ("data", fingerprint(job, MANIFEST | {"classes": ["0", "2"]})),
        ("data", fingerprint(job, MANIFEST | {"lmdb_sha256": {}})),
        ("weights", fingerprint(job, weights_sha256="ab")),
        ("solvers", fingerprint(job, solvers=2)),
        ("solver.prototxt", fingerprint(make_job(DATASET="digits", BITS="16", SEED="7"))),
        ("train_val.prototxt", fingerprint(make_job(DATASET="digits", BITS="16", BETA="2"))),
    ):
        assert other["sha256"] != first["sha256"]
        assert [
            name for name in first["parts"] if other["parts"][name] != first["parts"][name]
        ] == [part]
    # the engine is a part only where it is not the one of the first fingerprints
    assert fingerprint(job, engine="dnnl")["parts"] == first["parts"] | {"engine": "dnnl"}
    (data / "mean.binaryproto").write_bytes(b"other")
    assert fingerprint(job)["parts"]["mean"] != first["parts"]["mean"]


def test_whose_statistics_a_batchnorm_layer_keeps_is_a_part(fingerprint):
    """Gradients are averaged over several GPUs, and the running means of BatchNorm are not."""
    first = {"statistics": device.statistics("gpu:0,1")}
    assert first["statistics"] and not device.statistics("gpu:0") and not device.statistics("cpu")
    plain = make_job(DATASET="digits", BITS="16")
    assert fingerprint(plain, **first) == fingerprint(plain)
    job = make_job(DATASET="digits", BITS="16", NET="cifar_small")
    one, two = fingerprint(job, solvers=2), fingerprint(job, solvers=2, **first)
    assert two["parts"] == one["parts"] | first
    assert not record.known_as(one, two) and not record.known_as(two, one)
    assert record.known_as(two, two)


def test_comments_and_blanks_decide_nothing(data):
    def of(text):
        files = {"train_val.prototxt": text}
        return record.fingerprint_of(
            files, data, MANIFEST, weights_sha256="none", solvers=1, engine="caffe"
        )

    assert of("# a head\n\n  x: 1  # why\n\n y: 2") == of("x: 1\ny: 2\n")
    assert of("x: 1\ny: 2\n") != of("x: 1\ny: 3\n")


@pytest.fixture
def there(tmp_path, fingerprint):
    """(options of a job, a folder of runs) whose run is there."""
    given = {"DATASET": "digits", "BITS": "16", "RUNS": str(tmp_path), "RUN": "mine"}
    job = make_job(**given)
    job.run.mkdir()
    content = {"settings": record.settings_of(job), "fingerprint": fingerprint(job)}
    record.write_record(job.run, content)
    return given


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"SEED": "7"}, "SEED=42 there, SEED=7 here"),
        ({"BITS": "32", "SEED": "1"}, "BITS=16 there, BITS=32 here; SEED=42 there, SEED=1 here"),
        ({"GAMMA": "0"}, "GAMMA=1.0 there, GAMMA=0.0 here"),
        ({"METHOD": "kevinnet"}, "METHOD=ssdh there, METHOD=kevinnet here; SEED=42 there, SEED=-1"),
        ({"SUBSET": "10", "NET": "cifar_small"}, "NET=lenet there, NET=cifar_small here; "),
    ],
)
def test_another_run_is_said_by_its_variables(there, fingerprint, changed, differs):
    job = make_job(**there | changed)
    with pytest.raises(Failure) as refused:
        record.check_same(job, fingerprint(job))
    assert str(refused.value).startswith(f"{job.run} holds another run ({differs}")
    assert str(refused.value).endswith(
        "). Give this one a name with RUN=name, or remove that one with 'make clean-run'"
    )


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"solvers": 2}, "1 batches an update there, 2 here (DEVICE)"),
        ({"weights_sha256": "ab"}, "the weights has changed"),
        ({"manifest": MANIFEST | {"mean": "imagenet"}}, "the data has changed"),
    ],
)
def test_where_no_variable_differs_the_part_is_said(there, fingerprint, changed, differs):
    job = make_job(**there)
    with pytest.raises(Failure) as refused:
        record.check_same(job, fingerprint(job, **changed))
    assert f"{job.run} holds another run ({differs}). Give" in str(refused.value)


def test_another_engine_is_said(there, fingerprint):
    job = make_job(**there)
    content = record.read_record(job.run)
    record.write_record(job.run, content | {"fingerprint": fingerprint(job, engine="dnnl")})
    with pytest.raises(Failure, match=r"\(the engine dnnl there, caffe here \(CAFFE_ENGINE\)\)"):
        record.check_same(job, fingerprint(job))
    record.check_same(job, fingerprint(job, engine="dnnl"))


def test_the_same_run_and_none_pass(there, fingerprint, tmp_path):
    job = make_job(**there | {"ITERS": "7", "DEVICE": "cpu"})
    record.check_same(job, fingerprint(job))
    empty = make_job(**there | {"RUN": "other", "SEED": "7"})
    record.check_same(empty, fingerprint(empty))


def test_a_run_from_before_a_part_was_recorded_is_the_same(there, fingerprint):
    job = make_job(**there)
    content = record.read_record(job.run)
    for part in ("mean", "caffe", "ssdh_losses.py"):
        del content["fingerprint"]["parts"][part]
    content["fingerprint"]["sha256"] = "of those parts"
    del content["settings"]["method"]
    record.write_record(job.run, content)
    record.check_same(job, fingerprint(job))
    assert record.read_record(job.run)["settings"]["method"] == "ssdh"
    with pytest.raises(Failure, match="the data has changed"):
        record.check_same(job, fingerprint(job, MANIFEST | {"classes": []}))


def test_settings_as_run_json_keeps_them():
    assert record.settings_of(with_loss(make_job(BETA="0.5", DEVICE="cpu"), several=False)) == {
        "dataset": "mnist",
        "net": "lenet",
        "method": "ssdh",
        "bits": 48,
        "seed": 42,
        "batch": 64,
        "subset": 0,
        "head": False,
        "loss": "softmax",
        "alpha": 1.0,
        "beta": 0.5,
        "gamma": 1.0,
        "weights": "none",
        "iters": 9000,
        "device": "cpu",
    }


def test_seconds_of_a_stage_add_up_where_it_goes_on(there, tmp_path):
    run = tmp_path / "mine"
    record.add_seconds(run, "train", 1.24)
    record.add_seconds(run, "train", 2)
    record.set_seconds(run, "codes", 4)
    record.set_seconds(run, "codes", 5)
    assert record.read_record(run)["stages"] == {"train": 3.2, "codes": 5}


def test_a_record_that_is_missing_or_damaged_is_said(tmp_path):
    assert record.read_if_there(tmp_path) == {}
    with pytest.raises(InputError, match=r"run\.json"):
        record.read_record(tmp_path)
    for text in ("{", "[]", '{"settings": {}}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(InputError, match="'make clean-run' and 'make train'"):
            record.read_if_there(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": None},
        {"model": {"iters": "many", "sha256": "0"}},
        {"stages": {"train": "long"}},
        {"warnings": "all"},
        {"settings": {"net": "lenet"}},
        {"fingerprint": {"sha256": "0", "parts": {"solvers": "two"}}},
        {"fingerprint": {"sha256": "0", "parts": {"solvers": 2}}},
    ],
)
def test_a_record_whose_parts_are_of_another_kind_is_said(there, tmp_path, change):
    run = tmp_path / "mine"
    record.write_record(run, record.read_record(run) | change)
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        record.read_record(run)


def test_a_record_is_written_whole_or_not_at_all(there, tmp_path):
    run = tmp_path / "mine"
    before = (run / "run.json").read_bytes()
    with pytest.raises(TypeError):
        record.write_record(run, {"settings": {}, "fingerprint": object()})
    assert (run / "run.json").read_bytes() == before
    assert [path.name for path in run.iterdir()] == ["run.json"]
    assert json.loads(before)["settings"]["bits"] == 16


def test_the_fingerprint_of_a_net_is_its_run_s_and_its_weights(tmp_path):
    model = tmp_path / "model.caffemodel"
    model.write_bytes(b"weights")
    content = {"fingerprint": {"sha256": "0123456789abcdef" * 4}}
    found = record.net_fingerprint(content, model)
    digest = file_digest(model, "sha256")
    assert found == f"0123456789abcdef-{digest[:16]}"
    assert record.net_fingerprint(content | {"model": {"sha256": digest}}, model) == found
    with pytest.raises(Failure, match="is not what the training left"):
        record.net_fingerprint(content | {"model": {"sha256": "0" * 64}}, model)


def test_caffe_s_commit_is_that_of_the_installer():
    installer = (REPO / "tools/setup/install_caffe.sh").read_text()
    assert f"commit={device.build()['commit']}\n" in installer
