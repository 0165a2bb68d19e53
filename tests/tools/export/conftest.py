"""A small run of digits, exported once."""

import shutil

import pytest


@pytest.fixture(scope="session")
def exported_run(extracted_run, options, command, folder_of, tmp_path_factory):
    """The options of a job on digits with an index and an export; tests get copies of it."""
    job = extracted_run | {"--runs": tmp_path_factory.mktemp("exported")}
    shutil.copytree(folder_of(extracted_run), folder_of(job))
    for module, *more in (("tools.search.indexing",), ("tools.export", "--int8", 1)):
        done = command(module, *options(job), *more)
        assert done.returncode == 0, done.stderr
    return job | {"said": done.stdout}


@pytest.fixture
def exported(exported_run, folder_of, tmp_path):
    """The options of a job whose run is exported, the test's own."""
    job = {name: value for name, value in exported_run.items() if name != "said"}
    shutil.copytree(folder_of(job), tmp_path / "run")
    return job | {"--runs": tmp_path}
