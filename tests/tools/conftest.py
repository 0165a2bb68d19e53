"""For several rooms: a trained run with its codes and features, and a browser."""

import shutil

import h5py
import numpy as np
import pytest

from data_prep import DataError
from data_prep.debian import apt_install


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


@pytest.fixture
def several(extracted_run, folder_of, tmp_path):
    """The folder of a run whose pictures have several labels: their digit, and that of their row.

    Its net is the one-label run's, so its probabilities are, too.
    """
    folder = tmp_path / folder_of(extracted_run).name
    shutil.copytree(folder_of(extracted_run), folder)
    with h5py.File(folder / "codes.h5", "a") as file:
        for name in ("database", "query"):
            digits = file[name]["labels"][:]
            labels = np.eye(10, dtype=np.uint8)[digits]
            labels[np.arange(len(digits)), np.arange(len(digits)) % 10] = 1
            del file[name]["labels"]
            file[name]["labels"] = labels
    return folder


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by Playwright; a camera that shows a test picture."""
    from playwright.sync_api import sync_playwright

    if not shutil.which("chromium"):
        try:
            apt_install("chromium", "to test the page")
        except DataError as error:
            pytest.skip(str(error))
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield chromium
        chromium.close()
