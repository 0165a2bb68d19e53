"""What the leaderboard trains and learns, and what it refuses; its table: tests/eval/pages."""

import json

import pytest

from eval.files import InputError
from eval.protocol import measure
from eval.summary import write_metrics
from tests.eval.baselines.learn import learn_baselines
from tests.eval.samples import write_features, write_run, write_sample
from tools import leaderboard
from tools.run import data
from tools.run.failure import Failure, Interrupted
from tools.run.job import VARIABLES
from tools.run.nets import nets
from tools.run.variables import parse


@pytest.fixture
def call(tmp_path, monkeypatch, data_root):
    """Call the command with options on runs in tmp_path; return what it would have run."""
    commands = []

    def run(environment, module, *arguments):
        names = ("METHOD", "BITS", "DATASET", "ITERS", "BASELINES")
        given = tuple(environment.get(f"SSDH_{name}", "") for name in names)
        commands.append((module, *arguments, *given))

    def call(*options):
        words = ("--dataset", "digits", "--runs", tmp_path, "--data-root", data_root, *options)
        monkeypatch.setattr("sys.argv", ["tools.leaderboard", *map(str, words)])
        monkeypatch.setattr(leaderboard, "run_command", run)
        leaderboard.main()
        return commands

    return call


def test_every_method_of_the_net_is_trained_once_a_code_length(call, tmp_path):
    methods = sorted(nets()["lenet"].methods, key="finetune".__ne__)  # which is the first
    for method in methods:
        of_method = "" if method == "ssdh" else f"-{method}"
        for bits in (8, 12):
            folder = tmp_path / f"digits-lenet{of_method}-{bits}"
            if method == "finetune":
                folder = tmp_path / "digits-lenet-finetune"
            if folder.exists():
                continue
            folder.mkdir()
            if method == "finetune":
                write_features(folder / "features.h5")
                write_run(folder / "run.json", bits=None, method=method)
                learn_baselines(folder, 8, 12, 16)
            else:
                write_sample(folder / "codes.h5", bits=bits)
                write_metrics(folder / "metrics.json", measure(folder / "codes.h5"))
                write_run(folder / "run.json", bits=bits, method=method)
    commands = call("--bits", "8 12", "--iters", 30, "--baselines", "lsh itq")
    rest = ("digits", "30", "lsh itq")
    expected = []
    for method in methods:
        for bits in ("8", "12") if method != "finetune" else ("",):
            expected += [
                ("tools.train", method, bits, *rest),
                ("tools.stages", "report", method, bits, *rest),
            ]
        if method == "finetune":
            expected.append(("tools.baselines", method, "8 12", *rest))
    assert commands == expected
    content = json.loads((tmp_path / "leaderboard-digits-lenet" / "leaderboard.json").read_text())
    found = {(entry["run"], entry["bits"]) for entry in content["entries"]}
    for method in methods:
        of_method = "" if method == "ssdh" else f"-{method}"
        for bits in (8, 12):
            assert (f"digits-lenet{of_method}-{bits}", bits) in found or method == "finetune"
    assert {bits for _, bits in found} == {None, 8, 12}  # 16 was not asked for
    assert {"LSH", "ITQ"} < {entry["method"] for entry in content["entries"]}
    assert not {"KSH", "BRE"} & {entry["method"] for entry in content["entries"]}  # nor these


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bits", " "), "BITS has no code length in it"),
        (("--run", "mine"), "RUN= names one run, and a leaderboard has several"),
        (("--bits", "12 1x"), "BITS=1x is not a whole number"),
        (("--baselines", "bre mhl"), "there is no method 'mhl'; there are lsh, sh"),
        (("--data-root", "nowhere"), "run 'make data' with the same variables first"),
        (("--net", "nin", "--baselines", "bre"), "NET=nin has no METHOD=finetune, whose features"),
    ],
)
def test_what_it_refuses_is_one_sentence_before_anything_is_run(
    call, tmp_path, data_root, monkeypatch, options, message
):
    as_of_nin(data_root, monkeypatch)
    with pytest.raises((Failure, InputError), match=message):
        call(*options)
    assert not list(tmp_path.iterdir())


def as_of_nin(data_root, monkeypatch):
    """Let the digits' manifest stand for that of the pictures of any net."""
    manifest = data.read_manifest(data_root / "digits" / "28x1")
    there = data.read_manifest
    monkeypatch.setattr(
        data,
        "read_manifest",
        lambda folder: manifest if data_root in folder.parents else there(folder),
    )


def test_methods_that_are_not_for_the_data_are_left_out(data_root, monkeypatch, capsys):
    manifest = data.read_manifest(data_root / "digits" / "28x1")
    several = manifest | {"several_labels": True}
    monkeypatch.setattr(data, "read_manifest", lambda folder: several)
    words = ("--dataset", "digits", "--data-root", data_root, "--bits", "12 48")
    monkeypatch.setattr("sys.argv", ["tools.leaderboard", *map(str, words)])
    jobs = leaderboard.jobs_of(parse(None, (*VARIABLES, "BASELINES")))
    assert [(job.method.name, job.bits) for job in jobs] == [
        ("finetune", None),
        *(("ssdh", bits) for bits in (12, 48)),
        *(("kevinnet", bits) for bits in (12, 48)),
    ]
    said = capsys.readouterr().err
    assert [f"METHOD={name}," in said for name in ("cnnh", "cnnh_plus", "dnnh")] == [True] * 3


def test_what_cannot_be_learned_is_left_out_before_anything_is_trained(
    data_root, monkeypatch, capsys
):
    manifest = data.read_manifest(data_root / "digits" / "28x1")
    rare = manifest | {"labels": manifest["labels"] | {"train": [20] * 800}}
    monkeypatch.setattr(data, "read_manifest", lambda folder: rare)
    words = ("--dataset", "digits", "--data-root", data_root, "--bits", "12", "--batch", "32")
    monkeypatch.setattr("sys.argv", ["tools.leaderboard", *map(str, words)])
    jobs = leaderboard.jobs_of(parse(None, (*VARIABLES, "BASELINES")))
    names = [job.method.name for job in jobs]
    assert names == ["finetune", "ssdh", "kevinnet", "cnnh", "cnnh_plus"]
    said = capsys.readouterr().err
    assert said.startswith("left out: BITS=12: METHOD=dnnh learns from triplets")
    assert said.endswith("most batches of 32 pictures have none: BATCH=35 or more\n")


@pytest.mark.slow
def test_what_is_trained_and_learned_is_one_table(tmp_path, data_root, monkeypatch, capfd):
    """By the commands themselves, on little, of two methods for the sake of time."""
    both, every_job = ("finetune", "dnnh"), leaderboard.jobs_of
    monkeypatch.setattr(
        leaderboard,
        "jobs_of",
        lambda values: [job for job in every_job(values) if job.method.name in both],
    )
    words = ("--dataset", "digits", "--data-root", data_root, "--runs", tmp_path, "--bits", 8)
    more = ("--iters", 40, "--device", "cpu", "--baselines", "lsh itq")
    monkeypatch.setattr("sys.argv", ["tools.leaderboard", *map(str, (*words, *more))])
    leaderboard.main()
    folder = tmp_path / "leaderboard-digits-lenet"
    content = json.loads((folder / "leaderboard.json").read_text())
    assert [entry["bits"] for entry in content["entries"]] == [None, 8, 8, 8]
    titles = {entry["method"] for entry in content["entries"]}
    assert titles == {"DNNH", "LSH", "ITQ", "lenet-ft, Euclidean"}
    for entry in content["entries"]:
        assert entry["seconds_coding"] > 0 and 0 < entry["map"] <= 1
        assert entry["bits"] is None or entry["seconds_training"] >= 0
    assert (folder / "leaderboard.txt").read_text() in capfd.readouterr().out


def test_it_ends_as_the_command_that_failed_did():
    with pytest.raises(Interrupted) as ended:
        leaderboard.run_command({"PATH": ""}, "no_such_module")
    assert ended.value.args == (1,)
