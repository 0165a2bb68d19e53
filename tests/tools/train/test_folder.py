"""What counts as trained: the model of the asked iterations, and no other."""

import json
import shutil

import pytest

from data_prep.files import file_digest
from eval.run_folders import read_run
from tools.net.trained import TrainedNet
from tools.run import record
from tools.run.failure import Failure
from tools.train import snapshots

pytestmark = pytest.mark.slow


def model_digest(run):
    return file_digest(run / "model.caffemodel", "sha256")


def test_an_old_model_does_not_pass_for_the_extended_one(trained, options, command, folder_of):
    """Killed between the last snapshot and its publication, or on a full disk there."""
    run, longer = folder_of(trained), trained | {"--iters": 80}
    old_model, old_record = (
        (run / "model.caffemodel").read_bytes(),
        record.read_record(run)["model"],
    )
    assert command("tools.train", *options(longer)).returncode == 0
    new = model_digest(run)
    (run / "model.caffemodel").unlink()
    (run / "model.caffemodel").write_bytes(old_model)
    record.write_record(run, record.read_record(run) | {"model": old_record})
    checked = command("tools.stages", "trained", *options(longer))
    assert checked.returncode == 1
    assert "is not what 80 iterations have left" in checked.stderr
    again = command("tools.train", *options(longer))
    assert again.returncode == 0, again.stderr
    assert "trained already" not in again.stdout
    assert model_digest(run) == new
    assert "trained already" in command("tools.train", *options(longer)).stdout


def test_a_run_from_before_the_model_was_recorded_is_known(trained, options, command, folder_of):
    run = folder_of(trained)
    content = record.read_record(run)
    del content["model"]
    for part in ("mean", "caffe", "ssdh_losses.py"):
        content["fingerprint"]["parts"].pop(part)
    record.write_record(run, content)
    assert "trained already" in command("tools.train", *options(trained)).stdout
    assert command("tools.stages", "trained", *options(trained)).returncode == 0
    longer = command("tools.train", *options(trained | {"--iters": 70}))
    assert longer.returncode == 0, longer.stderr
    assert "resuming at iteration 60" in longer.stderr


def test_an_unfinished_extension_is_reported_under_what_was_reached(
    trained, options, command, folder_of
):
    run = folder_of(trained)
    assert command("tools.codes", *options(trained)).returncode == 0
    assert command("eval", run / "codes.h5").returncode == 0
    content = record.read_record(run)
    content["settings"]["iters"] = 100000  # as it stands while the extension trains
    record.write_record(run, content)
    assert read_run(run).iters == 60
    assert read_run(run).metrics is not None
    longer = command("tools.train", *options(trained | {"--iters": 80}))
    assert longer.returncode == 0, longer.stderr
    assert read_run(run).iters == 80
    assert read_run(run).metrics is None
    assert "is of an earlier model of this run" in read_run(run).why


@pytest.mark.parametrize("name", ["iter_60.caffemodel", "iter_60.solverstate"])
def test_an_older_snapshot_is_taken_where_the_newest_is_damaged(
    trained, options, command, folder_of, name
):
    run = folder_of(trained)
    for kind in ("caffemodel", "solverstate"):
        shutil.copy(run / f"snapshots/iter_60.{kind}", run / f"snapshots/iter_50.{kind}")
    state = run / "snapshots/iter_50.solverstate"
    from caffe.proto import caffe_pb2

    older = caffe_pb2.SolverState.FromString(state.read_bytes())
    older.iter = 50
    state.write_bytes(older.SerializeToString())
    damaged = run / "snapshots" / name
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:-50])
    done = command("tools.train", *options(trained | {"--iters": 70}))
    assert done.returncode == 0, done.stderr
    assert "iter_60 is damaged and left out" in done.stdout
    assert "resuming at iteration 50" in done.stderr


def test_a_damaged_model_is_made_again(trained, options, command, folder_of):
    run = folder_of(trained)
    model = run / "model.caffemodel"
    content = model.read_bytes()
    model.unlink()
    model.write_bytes(content[:-100])
    with pytest.raises(Failure, match="is not what the training left"):
        record.net_fingerprint(record.read_record(run), model)
    extracted = command("tools.codes", *options(trained))
    assert extracted.returncode == 1
    assert "'make train' with the same variables makes it again" in extracted.stderr
    assert command("tools.train", *options(trained)).returncode == 0
    assert model.read_bytes() == content


def test_what_decides_the_result_is_in_the_fingerprint(trained, options, command, folder_of):
    content = record.read_record(folder_of(trained))
    parts = content["fingerprint"]["parts"]
    assert {"mean", "caffe", "ssdh_losses.py"} < set(parts)
    for part in ("mean", "caffe", "ssdh_losses.py"):
        changed = json.loads(json.dumps(content))
        changed["fingerprint"]["parts"][part] = "other"
        record.write_record(folder_of(trained), changed)
        done = command("tools.train", *options(trained))
        assert done.returncode == 1
        assert f"the {part} has changed" in done.stderr


def test_a_start_that_failed_does_not_hold_the_name(job, options, command, folder_of, tmp_path):
    broken = tmp_path / "broken.caffemodel"
    broken.write_bytes(b"no model")
    failed = command("tools.train", *options(job | {"--weights": broken}))
    assert failed.returncode == 1
    assert (folder_of(job) / "run.json").exists()
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    assert snapshots.model_of(folder_of(job), record.read_record(folder_of(job))) == 60
    assert TrainedNet.of_run(folder_of(job), batch=1).blobs.code == "latent_sigmoid"


def test_a_run_goes_on_by_the_engine_that_it_was_begun_with(
    trained, options, command, folder_of, monkeypatch
):
    run = folder_of(trained)
    content = record.read_record(run)
    if content["engine"] != "dnnl":
        pytest.skip("this Caffe was built without oneDNN")
    content["engine"] = "caffe"
    content["fingerprint"]["parts"].pop("engine")
    record.write_record(run, content)
    longer = options(trained | {"--iters": 70})
    refused = command("tools.train", *longer)
    assert refused.returncode == 1
    assert "was trained by the engine caffe until now: go on with CAFFE_ENGINE=caffe" in (
        refused.stderr
    )
    monkeypatch.setenv("CAFFE_ENGINE", "caffe")
    assert command("tools.train", *longer).returncode == 0
