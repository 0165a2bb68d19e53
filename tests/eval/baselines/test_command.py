import contextlib
import io
import json

import h5py
import numpy as np
import pytest

from eval.baselines.__main__ import main
from eval.baselines.methods import BASELINES
from eval.baselines.table import lines, rows
from eval.files import InputError
from eval.protocol import measure
from eval.run_folders import read_run
from eval.summary import write_metrics
from tests.eval.baselines.learn import learn_baselines, make_small
from tests.eval.samples import write_features, write_run, write_sample


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a finetune run and an SSDH run of 12 bits, measured."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("digits-lenet-finetune", "digits-lenet-12"):
        (folder / name).mkdir()
    write_features(folder / "digits-lenet-finetune" / "features.h5")
    write_run(folder / "digits-lenet-finetune" / "run.json", bits=None, method="finetune")
    write_sample(folder / "digits-lenet-12" / "codes.h5")
    write_metrics(
        folder / "digits-lenet-12" / "metrics.json",
        measure(folder / "digits-lenet-12" / "codes.h5"),
    )
    write_run(folder / "digits-lenet-12" / "run.json")
    return folder


@pytest.fixture(scope="module")
def printed(runs):
    """What the command printed, for 12 and 8 bits; results are left in the run's folder."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        learn_baselines(runs / "digits-lenet-finetune", 12, 8)
    return text.getvalue()


def result(runs, name):
    return json.loads((runs / "digits-lenet-finetune" / "baselines" / f"{name}.json").read_text())


def test_each_method_and_code_length_has_a_file_of_figures(runs, printed):
    folder = runs / "digits-lenet-finetune" / "baselines"
    expected = {f"{name}-{bits}.json" for name in BASELINES for bits in (12, 8)}
    assert {path.name for path in folder.iterdir()} == expected | {"euclidean.json"}
    for name in BASELINES:
        figures = result(runs, f"{name}-12")
        assert figures["bits"] == 12 and figures["accuracy"] is None
        assert (figures["queries"], figures["database"]) == (40, 300)
        assert 0.5 < figures["map"] <= 1
        assert figures["constant_bits"] == 0
        assert figures["learned_on"]["run"] == "digits-lenet-finetune"
        assert figures["learned_on"]["dimensions"] == 16
    assert np.diff(result(runs, "itq-12")["learned"]["quantization_errors"]).max() <= 1e-9
    learned = result(runs, "ksh-8")["learned"]
    assert len(learned["final_objective"]) == 8
    assert all(np.array(learned["final_objective"]) <= learned["spectral_objective"])


def test_the_table_names_the_run_of_every_row_and_what_is_not_there(runs, printed):
    lines = printed[printed.index("method  ") :].splitlines()[1:]
    assert len(lines) == 1 + 2 * (len(BASELINES) + 1)
    assert lines[0].startswith("lenet-ft, Euclidean") and lines[0].endswith("digits-lenet-finetune")
    itq = result(runs, "itq-12")
    assert f"{itq['map']:.4f} (ties:" in next(row for row in lines if row.startswith("ITQ"))
    ssdh = [row for row in lines if row.startswith("SSDH")]
    metrics = json.loads((runs / "digits-lenet-12" / "metrics.json").read_text())
    assert f"{metrics['map']:.4f}" in ssdh[0] and ssdh[0].endswith("digits-lenet-12")
    assert "not measured" in ssdh[1] and ssdh[1].endswith("no such run")


def test_what_is_there_is_kept_unless_features_or_method_changed(runs, printed, capsys):
    path = runs / "digits-lenet-finetune" / "baselines" / "lsh-8.json"
    before = path.stat().st_mtime_ns
    main([str(runs / "digits-lenet-finetune"), "--bits", "8"])
    assert "LSH, 8 bits: kept" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before
    for key in ("features_sha256", "source_sha256"):
        changed = json.loads(path.read_text())
        changed["learned_on"][key] = "of others"
        path.write_text(json.dumps(changed))
        main([str(runs / "digits-lenet-finetune"), "--bits", "8"])
        assert "LSH, 8 bits ..." in capsys.readouterr().out
        assert result(runs, "lsh-8")["learned_on"] == result(runs, "lsh-12")["learned_on"]
    assert result(runs, "itq-8")["learned_on"] != result(runs, "lsh-8")["learned_on"]


def test_results_on_other_weights_do_not_count(runs, printed):
    run = read_run(runs / "digits-lenet-finetune")
    assert all(row.metrics for row in rows(run, [12], [])[:-1])
    retrained = run._replace(metrics=run.metrics | {"net_fingerprint": "of other weights"})
    assert not any(row.metrics for row in rows(retrained, [12], []))


def test_results_of_other_code_do_not_count(runs, printed):
    """Nor does an asked method's table stop at one that nobody asked for."""
    path = runs / "digits-lenet-finetune" / "baselines" / "itq-12.json"
    now = path.read_text()
    content = json.loads(now)
    content["learned_on"]["source_sha256"] = "of others"
    path.write_text(json.dumps(content))
    run, said = read_run(runs / "digits-lenet-finetune"), []
    found = {row.method: row.metrics for row in rows(run, [12], [], left_out=said.append)}
    assert found["ITQ"] is None and found["LSH"]
    assert [str(each) for each in said] == [
        f"{path} is of other code than today's; run make baselines"
    ]
    with pytest.raises(InputError, match="of other code"):
        lines(run, [12], [])
    assert lines(run, [12], [], ["lsh"])
    path.write_text(now)


def test_a_list_of_methods_is_learned_and_shown_alone(tmp_path, capsys):
    write_features(tmp_path / "features.h5")
    write_run(tmp_path / "run.json", bits=None, method="finetune")
    main([str(tmp_path), "--bits", "8", "--methods", "lsh", "itq"])
    names = {path.name for path in (tmp_path / "baselines").iterdir()}
    assert names == {"euclidean.json", "lsh-8.json", "itq-8.json"}
    printed = capsys.readouterr().out
    rows = printed[printed.index("method  ") :].splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["lenet-ft,", "LSH", "ITQ", "SSDH"]
    with pytest.raises(SystemExit, match="error: BASELINES: there is no method 'itqs'; there are"):
        main([str(tmp_path), "--bits", "8", "--methods", "lsh", "itqs"])


def test_a_method_that_lacks_axes_is_left_out_unless_it_was_named(tmp_path, capsys, monkeypatch):
    make_small(monkeypatch)
    write_features(tmp_path / "features.h5")
    write_run(tmp_path / "run.json", bits=None, method="finetune")
    main([str(tmp_path), "--bits", "8", "17"])
    names = {path.name for path in (tmp_path / "baselines").iterdir()}
    assert {"itq-8.json", "cca-itq-8.json", "ksh-17.json"} <= names
    assert not names & {"itq-17.json", "cca-itq-17.json"}
    said = capsys.readouterr()
    for name in ("ITQ", "CCA-ITQ"):
        assert f"too few axes for {name} at 17 bits; ask for at most 16" in said.err
    assert said.err.count("left out: ") == 2
    with pytest.raises(SystemExit, match="too few axes for ITQ at 17 bits"):
        main([str(tmp_path), "--bits", "17", "--methods", "lsh", "itq"])


def test_bits_that_never_change_are_counted_and_said(tmp_path):
    write_features(tmp_path / "features.h5")
    write_run(tmp_path / "run.json", bits=None, method="finetune")
    main([str(tmp_path), "--bits", "8", "--methods", "lsh"])
    path, run = tmp_path / "baselines" / "lsh-8.json", read_run(tmp_path)
    assert not any("never change" in line for line in lines(run, [8], [], ["lsh"]))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"constant_bits": 2}))
    said = lines(run, [8], [], ["lsh"])[-1]
    assert said == "LSH, 8 bits: 2 of them never change in the database"


def test_features_of_an_untouched_net_are_not_called_fine_tuned(tmp_path):
    write_features(tmp_path / "features.h5")
    write_run(tmp_path / "run.json", bits=None, method="finetune")
    run = read_run(tmp_path)
    assert rows(run, [], [])[0].method == "lenet-ft, Euclidean"
    run.settings["head"] = True
    assert rows(run, [], [])[0].method == "lenet, Euclidean"


def spoilt(features, labels, what):
    """Features that nothing can be learned from, and the sentence on them."""
    several = np.eye(4, dtype=np.uint8)[labels]
    if what == "one label of several":
        several[:, 2] = 1
        return features, several, "or with a label that all of them have"
    if what == "no label of several":
        return features, np.zeros_like(several), "pictures of one class alone in 'database'"
    if what == "few":
        return features[:6], labels[:6], "has 6 pictures in 'database', fewer than the 8 bits"
    if what == "one class":
        return features, np.zeros_like(labels), "has pictures of one class alone in 'database'"
    if what == "constant":
        return np.ones_like(features), labels, "has the same features for every picture"
    features[3, 5] = np.nan
    return features, labels, "'database/features' holds a value that is not finite"


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    "what",
    ["few", "one class", "one label of several", "no label of several", "constant", "nan"],
)
def test_what_no_method_can_learn_from_is_one_sentence(tmp_path, name, what):
    write_features(tmp_path / "features.h5")
    write_run(tmp_path / "run.json", bits=None, method="finetune")
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        of_split = file["database"]
        features, labels, sentence = spoilt(of_split["features"][:], of_split["labels"][:], what)
        keys = of_split["key"][: len(labels)]
        for part, values in (("features", features), ("labels", labels), ("key", keys)):
            del of_split[part]
            of_split[part] = values
        if labels.ndim == 2:
            of_query = np.eye(4, dtype=np.uint8)[file["query/labels"][:]]
            del file["query/labels"]
            file["query/labels"] = of_query
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--bits", "8", "--methods", name])
    text = str(stopped.value)
    assert text.startswith(f"error: {tmp_path / 'features.h5'}") and sentence in text
    assert "\n" not in text
    assert not (tmp_path / "baselines").exists()


@pytest.mark.parametrize(
    ("run", "bits", "message"),
    [
        ("digits-lenet-finetune", "x", "BITS=x is no code length"),
        ("digits-lenet-12", "8", "features.h5 does not exist; run make codes FEATURES=1"),
        ("none", "8", "run.json does not exist; run make train"),
    ],
)
def test_bad_input_is_one_sentence(runs, run, bits, message):
    with pytest.raises(SystemExit) as stopped:
        main([str(runs / run), "--bits", bits])
    text = str(stopped.value)
    assert text.startswith("error: ") and message in text and "\n" not in text
    assert not (runs / "digits-lenet-12" / "baselines").exists()
