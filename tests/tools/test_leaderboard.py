"""What the leaderboard trains and learns, and what it refuses; its table: tests/eval/pages."""

import json

import pytest

from eval.protocol import measure
from eval.summary import write_metrics
from tests.eval.baselines.learn import learn_baselines
from tests.eval.samples import write_features, write_run, write_sample
from tools import leaderboard
from tools.run.failure import Failure, Interrupted
from tools.run.nets import nets


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command with options on runs in tmp_path; return what it would have run."""
    commands = []

    def run(environment, module, *arguments):
        names = ("METHOD", "BITS", "DATASET", "ITERS", "BASELINES")
        given = tuple(environment.get(f"SSDH_{name}", "") for name in names)
        commands.append((module, *arguments, *given))

    def call(*options):
        words = ("--dataset", "digits", "--runs", tmp_path, *options)
        monkeypatch.setattr("sys.argv", ["tools.leaderboard", *map(str, words)])
        monkeypatch.setattr(leaderboard, "run_command", run)
        leaderboard.main()
        return commands

    return call


def test_every_method_of_the_net_is_trained_once_a_code_length(call, tmp_path):
    methods = list(nets()["lenet"].methods)
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bits", " "), "BITS has no code length in it"),
        (("--run", "mine"), "RUN= names one run, and a leaderboard has several"),
        (("--bits", "12 1x"), "BITS=1x is not a whole number"),
    ],
)
def test_what_it_refuses_is_one_sentence_before_anything_is_run(call, tmp_path, options, message):
    with pytest.raises(Failure, match=message):
        call(*options)
    assert not list(tmp_path.iterdir())


def test_it_ends_as_the_command_that_failed_did():
    with pytest.raises(Interrupted) as ended:
        leaderboard.run_command({"PATH": ""}, "no_such_module")
    assert ended.value.args == (1,)
