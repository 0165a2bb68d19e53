"""The main job on digits, on real Caffe: training, kills, resumes, codes, metrics."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import caffe
import h5py
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from data_prep.lmdb_reader import iterate, open_rows
from tools.net import pretrained as weights_of_models
from tools.net import render
from tools.run import record
from tools.run.failure import Failure
from tools.train import loop, snapshots
from tools.train.identity import starting_weights

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[3]


def start(module, arguments):
    """Start a command; its process, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def rows_of(run):
    with open(run / "train.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_train_kill_resume_codes_metrics(job, options, command, folder_of):
    """kill -9 costs at most one snapshot interval; the rerun ends where an undisturbed one does."""
    run = folder_of(job)
    job |= {"--iters": 1500, "--batch": 8}
    process = start("tools.train", options(job))
    wait_for(lambda: snapshots.complete(run / "snapshots"))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    at = snapshots.complete(run / "snapshots")[-1]
    assert 0 < at < 1500
    reached = max(int(row["iteration"]) for row in rows_of(run))
    assert reached - at <= 1000

    again = command("tools.train", *options(job))
    assert again.returncode == 0, again.stderr
    assert f"resuming at iteration {at}" in again.stderr
    assert snapshots.complete(run / "snapshots")[-1] == 1500
    assert not snapshots.partial_folder(run).exists()
    iterations = [int(row["iteration"]) for row in rows_of(run)]
    assert iterations == sorted(set(iterations))
    assert iterations[-1] == 1500
    assert (run / "model.caffemodel").samefile(run / "snapshots" / "iter_1500.caffemodel")

    extracted = command("tools.codes", *options(job), "--features", 1)
    assert extracted.returncode == 0, extracted.stderr
    with h5py.File(run / "codes.h5") as file:
        assert file["query/latent"].shape[1] == 16
        labels = file["query/labels"][:]
        keys = [key.decode() for key in file["query/key"][:]]
        latent = file["query/latent"][:]
        assert keys == sorted(keys)  # the data set's own order, not the LMDB's
    with h5py.File(run / "features.h5") as file:
        assert file["query/features"].shape == (len(labels), 500)
        assert file["query/features"][:].std() > 0
    assert latent.std() > 0
    measured = command("eval", run / "codes.h5")
    assert measured.returncode == 0, measured.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.9
    assert metrics["map"] > 0.8
    assert metrics["bits"] == 16
    page = command("tools.report", *options(job))
    assert page.returncode == 0, page.stderr
    assert "from scratch" in (run / "report.html").read_text()
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))}
    page = command("tools.report", *options(job), **full)  # stands in for a full disk
    assert page.returncode == 1
    assert page.stderr.startswith(f"error: {run}/report.html: File too large; mend that")
    (run / "metrics.json").write_text("{")
    page = command("tools.report", *options(job))
    assert page.returncode == 1
    assert page.stderr.startswith(f"error: {run}/metrics.json is no JSON")
    assert page.stderr.count("\n") == 1


def test_two_undisturbed_runs_are_identical(trained, options, command, tmp_path, folder_of):
    model = (folder_of(trained) / "model.caffemodel").read_bytes()
    again = trained | {"--run": "again", "--runs": tmp_path}
    assert command("tools.train", *options(again)).returncode == 0
    assert (tmp_path / "again" / "model.caffemodel").read_bytes() == model
    other = trained | {"--run": "other", "--runs": tmp_path, "--seed": 7}
    assert command("tools.train", *options(other)).returncode == 0
    assert (tmp_path / "other" / "model.caffemodel").read_bytes() != model


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_snapshots_and_exits(job, options, command, number, folder_of):
    run = folder_of(job)
    job["--iters"] = 100000
    process = start("tools.train", options(job))
    wait_for(lambda: (run / "train.csv").exists() and len(rows_of(run)) > 1)
    second = command("tools.train", *options(job))
    assert second.returncode == 1
    assert "another process is training in" in second.stderr
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C does
    else:
        process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    (at,) = re.findall(r"stopped at iteration (\d+) with a snapshot", output)
    assert snapshots.complete(run / "snapshots")[-1] == int(at)
    job["--iters"] = int(at) + 5
    resumed = command("tools.train", *options(job))
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming at iteration {at}" in resumed.stderr


def test_an_interrupted_extension_is_not_reported_as_whole(trained, options, command, folder_of):
    """The model, codes and metrics that are there are of fewer iterations than run.json says."""
    run, job = folder_of(trained), trained | {"--iters": 100000}
    process = start("tools.train", options(job))
    wait_for(lambda: int(rows_of(run)[-1]["iteration"]) > 60)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    (at,) = re.findall(r"stopped at iteration (\d+) with a snapshot", output)
    checked = command("tools.stages", "trained", *options(job))
    assert checked.returncode == 1
    assert f"was stopped at iteration {at} of 100000: 'make train'" in checked.stderr


def test_a_run_s_folder_that_was_moved_resumes(trained, options, command, tmp_path, folder_of):
    moved = tmp_path / "elsewhere"
    folder_of(trained).rename(moved)
    trained |= {"--run": "elsewhere", "--iters": 80}
    resumed = command("tools.train", *options(trained))
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at iteration 60" in resumed.stderr


def test_what_differs_is_named_and_nothing_is_overwritten(trained, options, command, folder_of):
    run, job = folder_of(trained), trained
    before = (run / "model.caffemodel").read_bytes()
    again = command("tools.train", *options(job))
    assert again.returncode == 0
    assert "trained already" in again.stdout
    for option, value, words in [
        ("--seed", 7, "SEED=42 there, SEED=7 here"),
        ("--bits", 32, "BITS=16 there, BITS=32 here"),
        ("--beta", 0.5, "BETA=1.0 there, BETA=0.5 here"),
        ("--batch", 5, "BATCH=25 there, BATCH=5 here"),
        ("--iters", 30, "beyond ITERS=30"),
    ]:
        other = command("tools.train", *options(job | {option: value}))
        assert other.returncode == 1
        assert words in other.stderr
        assert "RUN=name" in other.stderr
        assert "Traceback" not in other.stderr
    assert (run / "model.caffemodel").read_bytes() == before


def test_other_pictures_are_another_run(trained, options, command, data_root, tmp_path):
    """The same call over data that were made anew with other contents does not pass for it."""
    made = command(
        *("data_prep", "digits", "--root", tmp_path, "--side", 28, "--channels", 1),
        *("--mean", "train", "--encoding", "png"),
    )
    assert made.returncode == 0, made.stderr
    other = command("tools.train", *options(trained | {"--data-root": tmp_path}))
    assert other.returncode == 1
    assert "the data has changed" in other.stderr


def test_no_data_and_no_trained_run_are_said(job, options, command, tmp_path):
    empty = command("tools.train", *options(job | {"--data-root": tmp_path / "none"}))
    assert empty.returncode == 1
    assert "run 'make data'" in empty.stderr
    untrained = command("tools.stages", "trained", *options(job))
    assert untrained.returncode == 1
    assert "there is no trained net" in untrained.stderr


def test_damage_is_said_with_the_file_and_what_to_do(trained, options, command, folder_of):
    (folder_of(trained) / "run.json").write_text("{")
    for module in ("train", "codes"):
        done = command(f"tools.{module}", *options(trained))
        assert done.returncode == 1
        assert "run.json is no JSON" in done.stderr
        assert "remove it and run 'make clean-run' and 'make train'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_damaged_manifest_is_said(job, options, command, data_root, tmp_path):
    data = tmp_path / "data" / "digits" / "28x1"
    shutil.copytree(data_root / "digits" / "28x1", data)
    (data / "manifest.json").write_text("{")
    done = command("tools.train", *options(job | {"--data-root": tmp_path / "data"}))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {data}/manifest.json: not JSON")
    assert done.stderr.endswith(f"remove {data} and make it again\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--net", "resnet", "NET=resnet is not known"),
        ("--bits", "4", "BITS=4 is out of range: 8 to 1024"),
        ("--bits", "many", "BITS=many is not a whole number"),
        ("--alpha", "-1", "ALPHA=-1 is out of range"),
        ("--device", "tpu", "DEVICE=tpu is not known"),
        ("--weights", "gone.caffemodel", "there is no such file"),
        ("--dataset", "folder", "DATASET=folder needs IMAGES="),
        ("--method", "dsh", "NET=lenet has no METHOD=dsh; it has ssdh, kevinnet, finetune"),
    ],
)
def test_wrong_options_stop_with_a_sentence(job, options, command, option, value, words, folder_of):
    done = command("tools.train", *options(job | {option: value}))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not folder_of(job).exists()


def test_a_folder_that_cannot_be_written_is_said(job, options, command):
    done = command("tools.train", *options(job | {"--runs": "/proc/runs", "--run": "digits"}))
    assert done.returncode == 1
    assert done.stderr.startswith("error: /proc/runs: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_of_somebody_else_is_said(trained, options, command, folder_of):
    run = folder_of(trained)
    run.chmod(0o555)
    try:
        for module, more in (("train", {"--iters": 80}), ("codes", {})):
            done = command(f"tools.{module}", *options(trained | more))
            assert done.returncode == 1
            assert "Permission denied; let uid" in done.stderr
            assert "Traceback" not in done.stderr
    finally:
        run.chmod(0o755)


def test_the_vgg_nets_refuse_to_start_from_nothing(job, options, command):
    for net in ("vgg16", "vgg16_avg"):
        done = command("tools.train", *options(job | {"--net": net, "--weights": "none"}))
        assert done.returncode == 1
        assert f"NET={net} has no fillers" in done.stderr


def test_the_terms_weights_are_ssdh_s(job, options, command):
    done = command("tools.train", *options(job | {"--method": "kevinnet", "--beta": 2}))
    assert done.returncode == 1
    assert "ALPHA, BETA and GAMMA weigh the terms of METHOD=ssdh" in done.stderr


def test_kevinnet_on_digits(job, options, command, folder_of):
    """Its own names all the way: training, health of the codes, codes.h5; no terms but one."""
    run, job = folder_of(job), job | {"--method": "kevinnet", "--seed": -1}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    row = rows_of(run)[-1]
    assert row["binarization"] == "" and row["firing_rate"] != ""
    assert command("tools.codes", *options(job)).returncode == 0
    with h5py.File(run / "codes.h5") as file:
        assert file["query/latent"].shape[1] == 16
    assert json.loads((run / "run.json").read_text())["settings"]["method"] == "kevinnet"


def test_finetune_on_digits(job, options, command, folder_of):
    """No codes: the feature layer, labels, keys and probabilities, and the accuracy from them."""
    run, job = folder_of(job), job | {"--method": "finetune", "--iters": 100}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    row = rows_of(run)[-1]
    assert row["distinct_codes"] == "" and float(row["test_accuracy"]) > 0.5
    extracted = command("tools.codes", *options(job))
    assert extracted.returncode == 0, extracted.stderr
    assert not (run / "codes.h5").exists()
    measured = command("eval.classification", run / "features.h5")
    assert measured.returncode == 0, measured.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    with h5py.File(run / "features.h5") as file:
        assert file.attrs["blob"] == "ip1"
        query = file["query"]
        assert query["features"].shape == (len(query["labels"]), 500)
        assert query["key"].shape == query["labels"].shape
        right = query["probabilities"][:].argmax(axis=1) == query["labels"][:]
        assert metrics["accuracy"] == pytest.approx(right.mean())
        assert metrics["net_fingerprint"] == file.attrs["net_fingerprint"]
    searched = command("tools.search", *options(job), "--query", "photo.jpg")
    assert "has no codes, which this needs" in searched.stderr


def test_a_model_by_name_is_not_fetched_again_for_a_trained_run(
    trained, monkeypatch, tmp_path, folder_of
):
    """As in a container whose weights/ is new: nothing is there, and nothing has to be."""
    content = record.read_record(folder_of(trained))
    content["weights"] = {"source": "caffenet", "sha256": "ab" * 32}
    record.write_record(folder_of(trained), content)
    monkeypatch.setattr(weights_of_models, "FOLDER", tmp_path)
    asked = SimpleNamespace(run=folder_of(trained), weights="caffenet")
    assert starting_weights(asked) == (None, "ab" * 32)
    path = tmp_path / weights_of_models.pretrained()["caffenet"]["file"]
    path.write_bytes(b"there, and something else")
    with pytest.raises(Failure, match="is not the model zoo's file"):
        starting_weights(asked)


def test_data_that_caffe_may_not_read_is_said(data_root):
    """As in a container with --user, over data that another user made."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as place:  # not tmp_path, which is its owner's alone
        data = Path(place) / "28x1"
        shutil.copytree(data_root / "digits" / "28x1", data)
        Path(place).chmod(0o755)

        def said():
            code = (
                "import os, sys, pathlib; from tools.train.folder import check_readable; "
                "os.setuid(4242); check_readable(pathlib.Path(sys.argv[1]))"
            )
            return subprocess.run(
                [sys.executable, "-c", code, data], cwd=REPO, capture_output=True, text=True
            ).stderr

        assert said() == ""
        (data / "test_lmdb" / "lock.mdb").chmod(0o644)
        assert "test_lmdb/lock.mdb: uid 4242 may not write there" in said()


def test_caffe_s_death_becomes_a_sentence(trained, options, command, folder_of):
    """A CHECK that fails inside Caffe ends its process, not ours, and is reported."""
    run = folder_of(trained)
    state = run / "snapshots" / "iter_60.solverstate"
    record = caffe_pb2.SolverState.FromString(state.read_bytes())
    record.history[0].shape.dim[0] += 1  # Caffe will find it incompatible
    state.write_bytes(record.SerializeToString())
    died = command("tools.train", *options(trained | {"--iters": 70}))
    assert died.returncode == 1
    assert "Caffe's process died of SIGABRT" in died.stderr
    assert "train.log" in died.stderr


def test_a_diverging_run_stops_and_says_so(trained, options, command, tmp_path, folder_of):
    net = caffe.Net(
        *(str(folder_of(trained) / name) for name in ("deploy.prototxt", "model.caffemodel")),
        caffe.TEST,
    )
    for name, value, words in [
        ("huge", 1e38, "the loss is not finite at iteration 1"),
        ("broken", np.nan, "has weights that are not finite"),
    ]:
        net.params["ip1"][0].data[...] = value
        model, run = tmp_path / f"{name}.caffemodel", tmp_path / name
        net.save(str(model))
        done = command("tools.train", *options(trained | {"--weights": model, "--run": name}))
        assert done.returncode == 1
        assert words in done.stderr
        assert not (run / "model.caffemodel").exists()
    warnings = json.loads((tmp_path / "huge" / "run.json").read_text())["warnings"]
    assert "not finite" in warnings[0]


def test_collapsed_codes_are_warned_of(job, options, command, folder_of):
    """No classification loss and much binarization: the codes collapse, and training says so."""
    job |= {"--alpha": 0, "--beta": 500, "--gamma": 0, "--iters": 200}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    assert "the codes have collapsed" in done.stderr
    assert any(
        "collapsed" in w for w in json.loads((folder_of(job) / "run.json").read_text())["warnings"]
    )


def test_health_says_what_is_wrong_and_nothing_else():
    good = {"saturation": 0.4, "test_binarization": -0.11, "test_accuracy": 0.9, "dead_bits": 0.0}
    assert loop.health(good, 10, 48) == []
    (words,) = loop.health(good | {"dead_bits": 3 / 48}, 10, 48)
    assert "3 of 48 bits never change" in words
    (words,) = loop.health(good | {"saturation": 0.001}, 10, 48)
    assert "near 0.5" in words
    (words,) = loop.health(good | {"test_binarization": -0.1249, "test_accuracy": 0.1}, 10, 48)
    assert "collapsed" in words


def test_extract_refuses_weights_of_another_net_and_constant_codes(
    trained, options, command, folder_of
):
    run = folder_of(trained)
    model = run / "model.caffemodel"
    net = caffe.Net(str(run / "deploy.prototxt"), str(model), caffe.TEST)
    net.params["latent"][0].data[...] = 0
    model.unlink()
    net.save(str(model))
    content = record.read_record(run) | {"model": snapshots.model_record(run, 60)}
    record.write_record(run, content)
    constant = command("tools.codes", *options(trained))
    assert constant.returncode == 1
    assert "gives every picture the same activations" in constant.stderr
    assert not (run / "codes.h5").exists()
    model.write_bytes(model.read_bytes()[:1000])
    content["model"] = snapshots.model_record(run, 60)
    record.write_record(run, content)
    truncated = command("tools.codes", *options(trained))
    assert truncated.returncode == 1
    assert "model.caffemodel is not a whole caffemodel" in truncated.stderr


def test_tuning_from_a_trained_model(trained, options, command, tmp_path, folder_of):
    """WEIGHTS=path: what is loaded, what starts fresh; a shorter code starts its layers anew."""
    model = folder_of(trained) / "model.caffemodel"
    tuned = command(
        "tools.train",
        *options(trained | {"--run": "tuned", "--bits": 8, "--weights": model}),
    )
    assert tuned.returncode == 0, tuned.stderr
    assert "starting fresh: latent, fc9" in tuned.stderr
    record = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert record["from_scratch"] is False
    assert re.fullmatch("[0-9a-f]{64}", record["weights"]["sha256"])


def test_solver_states_point_to_their_weights(trained_run, folder_of):
    folder = folder_of(trained_run) / "snapshots"
    record = caffe_pb2.SolverState.FromString((folder / "iter_60.solverstate").read_bytes())
    assert record.learned_net == str(folder / "iter_60.caffemodel")


def test_the_loop_s_solver_is_the_recipe_without_tests_and_snapshots(
    trained, options, command, folder_of
):
    run = folder_of(trained)
    recipe = render.parse((run / "solver.prototxt").read_text(), "solver.prototxt")
    loop = render.parse((run / "solver_loop.prototxt").read_text(), "solver.prototxt")
    for field in ("test_iter", "test_interval", "snapshot", "snapshot_prefix"):
        recipe.ClearField(field)
        loop.ClearField(field)
    assert recipe == loop


def test_steps_never_pass_an_event():
    param = render.parse("display: 100 test_interval: 500 snapshot: 300 max_iter: 1050", "solver")
    n, stops = 0, []
    while n < 1050:
        n += loop.steps_to(param, n)
        stops.append(n)
    assert stops == [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1050]


def test_a_long_training_on_a_cpu_is_told_of_the_pretrained_net_made_for_it():
    (sentence,) = loop.eta(60, 2.0, 10, [])
    assert sentence == "about 60 s to go, at 2 iterations a second (measured on the first 10)"
    for gpus, hints in (([], 1), ([0], 0)):
        _, *hint = loop.eta(3 * 86400, 0.2, 1, gpus)
        assert len(hint) == hints and all("NET=efficientnet_lite0" in each for each in hint)


def test_codes_are_those_of_the_test_phase(trained, options, command, folder_of):
    """Picture by picture; some BLAS kernels round the rows of a batch by their place in it."""
    assert command("tools.codes", *options(trained)).returncode == 0
    run = folder_of(trained)
    net = caffe.Net(str(run / "train_val.prototxt"), str(run / "model.caffemodel"), caffe.TEST)
    net.forward()
    data = Path(re.search(r'source: "(.*)/test_lmdb"', (run / "train_val.prototxt").read_text())[1])
    rows = [row for row, *_ in iterate(data / "test_lmdb")]
    with open_rows(data / "test_lmdb") as (keys, _):
        pass
    batch = net.blobs["data"].data.shape[0]
    with h5py.File(run / "codes.h5") as file:
        latent = file["query/latent"][:][rows[:batch]]
        np.testing.assert_allclose(latent, net.blobs["latent_sigmoid"].data, rtol=0, atol=1e-6)
        assert latent.std(axis=0).min() > 0.01
        np.testing.assert_array_equal(
            file["query/labels"][:][rows[:batch]], net.blobs["label"].data.astype(int)
        )
        assert [key.decode() for key in file["query/key"][:]] == keys
