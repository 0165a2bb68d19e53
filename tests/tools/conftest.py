"""A trained run whose codes and features are extracted, for the rooms that need those."""

import shutil

import pytest


@pytest.fixture(scope="session")
def extracted_run(trained_run, options, command, folder_of, tmp_path_factory):
    """The options of a job on digits with codes.h5 and features.h5; tests get copies of it."""
    job = trained_run | {"--runs": tmp_path_factory.mktemp("extracted")}
    shutil.copytree(folder_of(trained_run), folder_of(job))
    done = command("tools.codes", *options(job), "--features", 1)
    assert done.returncode == 0, done.stderr
    return job


@pytest.fixture
def extracted(extracted_run, folder_of, tmp_path):
    """The options of a job whose codes are extracted and not indexed, the test's own."""
    shutil.copytree(folder_of(extracted_run), tmp_path / "run")
    return extracted_run | {"--runs": tmp_path}
