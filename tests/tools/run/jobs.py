"""Jobs for tests, from the text of variables, as make would give them."""

from types import SimpleNamespace

from tools.run.job import VARIABLES, job_of
from tools.run.variables import value_of, variables


def values_of(**given):
    """The values of a job's variables: those given as text, else the defaults."""
    texts = {name: given.get(name) or variables()[name].default for name in VARIABLES}
    values = {name.lower(): value_of(variables()[name], text) for name, text in texts.items()}
    return SimpleNamespace(**values)


def make_job(**given):
    """The job of some variables, given as text."""
    values = values_of(**given)
    (bits,) = values.bits
    return job_of(values, bits)
