"""That the jobs of tools.bench.few are those of the runs whose features and pictures it takes."""

from tests.tools.run.jobs import make_job
from tools.bench import few
from tools.run.variables import parse


def test_its_jobs_are_those_of_all_pictures(monkeypatch):
    monkeypatch.setattr("sys.argv", ["few", "--bits", "48", "--data-root", "data"])
    values = parse(None, few.VARIABLES)
    for name in few.NAMES:
        head = "1" if name == "efficientnet_lite0" else ""
        assert few.job_for(name, values) == make_job(DATASET="cifar10", NET=name, HEAD=head)
