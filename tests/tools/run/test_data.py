"""A run's data: an older manifest's classes beside the labels in its LMDBs."""

import json
import shutil

import pytest

from tools.run.data import read_manifest
from tools.run.failure import Failure


def test_classes_fewer_than_the_labels_are_said(data_root, tmp_path):
    shutil.copytree(data_root / "digits/28x1", tmp_path / "28x1")
    path = tmp_path / "28x1/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["labels"]  # as an older one
    path.write_text(json.dumps(manifest))
    assert read_manifest(path.parent) == manifest
    path.write_text(json.dumps(manifest | {"classes": ["0", "1", "2"]}))
    with pytest.raises(Failure, match="names 3 classes, and train_lmdb has pictures of class 9"):
        read_manifest(path.parent)
