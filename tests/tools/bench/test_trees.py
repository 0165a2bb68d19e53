"""The comparison of FastHash's trees, on little."""

import re

import pytest

from eval.baselines import fasthash
from tests.eval.baselines.learn import make_small
from tests.eval.samples import write_features
from tools.bench import trees
from tools.run.failure import Failure


def test_both_learn_the_same_codes(tmp_path, monkeypatch, capsys):
    make_small(monkeypatch)
    monkeypatch.setattr(fasthash, "ROWS", 150)
    write_features(tmp_path / "features.h5")
    monkeypatch.setattr("sys.argv", ["trees", str(tmp_path)])
    trees.main()
    said = capsys.readouterr().out
    assert said.startswith("150 rows, 16 features, 4 bits of 10 trees\n")
    for name in ("LightGBM", "scikit-learn"):
        (found,) = re.findall(rf"^{name} +([\d.]+) +([\d.]+) +([\d.]+)$", said, re.M)
        assert float(found[1]) < 0.1 and float(found[2]) < 0.25, said
    assert re.search(
        r"^memory with LightGBM's trees: [\d,]+ MB at most, of which the 300 ", said, re.M
    )


def test_too_few_pictures_are_one_sentence(tmp_path, monkeypatch):
    write_features(tmp_path / "features.h5")
    for path, words in (
        (tmp_path, "20,000 or more in its database"),
        (tmp_path / "x", "not exist"),
    ):
        monkeypatch.setattr("sys.argv", ["trees", str(path)])
        with pytest.raises(Failure, match=words):
            trees.main()
