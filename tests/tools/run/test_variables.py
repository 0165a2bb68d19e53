"""The variables of make: what each may be, and that make passes them on as they were given."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tools.run.failure import Failure
from tools.run.variables import environment_of, parse, parse_known, value_of, variables

REPO = Path(__file__).resolve().parents[3]
TABLE = variables()
RANGES = {
    name: tuple(map(int, variable.check.removesuffix(",...").split("..")))
    for name, variable in TABLE.items()
    if ".." in variable.check
}
ODD = 'it\'s $x $(shell touch gone) ${HOME} `touch gone` "a" & b; (c) #d \\e %f *?[g] =h é\nnew'


def of_kind(kind):
    return [name for name, variable in TABLE.items() if variable.check == kind]


def value(name, text):
    return value_of(TABLE[name], text)


def test_every_line_of_the_table_says_what_the_variable_may_be():
    lines = (REPO / "tools/run/variables.txt").read_text().splitlines()
    names = [line.split()[0] for line in lines if line and line[0] != "#"]
    assert len(set(names)) == len(names)
    for variable in TABLE.values():
        assert re.fullmatch(r"text|path|flag|number|-?\d+\.\.\d+(,\.\.\.)?", variable.check)
        value_of(variable, variable.default)
        assert variable.help
    assert "CAFFE_PREFIX" not in TABLE  # for the scripts


@pytest.mark.parametrize("name", of_kind("flag"))
def test_flags(name):
    assert value(name, "1") is True
    assert value(name, "") is False
    for text in ("0", "yes", "true", "01", " 1", "1 "):
        with pytest.raises(Failure, match=f"^{name}={text} is not known: it is 1, or left out$"):
            value(name, text)


@pytest.mark.parametrize("name", RANGES)
def test_whole_numbers(name):
    low, high = RANGES[name]
    several = TABLE[name].check.endswith(",...")
    for number in (low, high):
        assert value(name, str(number)) == ([number] if several else number)
    for number in (low - 1, high + 1):
        with pytest.raises(Failure, match=f"^{name}={number} is out of range: {low} to {high}$"):
            value(name, str(number))
    for text in ("x", "1.5", "1e3", "٣x", "0x10"):
        with pytest.raises(Failure, match=f"^{name}={text} is not a whole number$"):
            value(name, text)
    for text, usual in ((f"0{high}", high), (f"+{high}", high), ("1_0", 10), ("٣", 3)):
        with pytest.raises(Failure) as refused:
            value(name, text)
        assert str(refused.value) == f"{name}={text} is not written as a number usually is: {usual}"
    assert value(name, "") == ([] if several else None)


def test_several_whole_numbers():
    assert value("BITS", "12 32  48") == [12, 32, 48]
    for text, says in (
        ("12,32", "BITS=12,32 is not a whole number"),
        ("12 7", "BITS=7 is out of range: 8 to 1024"),
        ("12 048", "BITS=048 is not written as a number usually is: 48"),
    ):
        with pytest.raises(Failure, match=f"^{says}$"):
            value("BITS", text)


@pytest.mark.parametrize("name", of_kind("number"))
def test_numbers(name):
    for text in ("0", "1", "0.25", "1e-3", "999999.5"):
        assert value(name, text) == float(text)
    for text in ("-1", "-1e-9", "nan", "inf", "1e6"):
        with pytest.raises(Failure, match=f"^{name}={text} is out of range: 0 or more$"):
            value(name, text)
    for text in ("x", "1,5", "0.5.1"):
        with pytest.raises(Failure, match=f"^{name}={text} is not a number$"):
            value(name, text)


@pytest.mark.parametrize("name", [*of_kind("text"), *of_kind("path")])
def test_texts(name):
    assert value(name, ODD) == ODD
    assert value(name, "") == ""
    with pytest.raises(Failure, match=f"^{name} has a byte in it that no text has$"):
        value(name, "a\0b")


def test_an_option_counts_before_the_environment_and_that_before_the_default(monkeypatch):
    names = ("BITS", "DATASET", "SKIP", "TOP", "CIFAR10_ARCHIVE")
    monkeypatch.setenv("SSDH_BITS", "12")
    monkeypatch.setenv("SSDH_DATASET", "")
    monkeypatch.setenv("SSDH_TOP", "20")
    monkeypatch.setattr("sys.argv", ["x", "--bits", "16", "--skip=1", "--top", ""])
    values = parse(None, names)
    assert (values.bits, values.dataset, values.skip, values.top) == ([16], "mnist", True, 10)
    assert values.cifar10_archive == ""
    monkeypatch.setattr("sys.argv", ["x", "--cifar10-archive", "a.zip"])
    values = parse(None, names)
    assert (values.bits, values.cifar10_archive) == ([12], "a.zip")


def test_a_command_of_a_command_has_its_values(monkeypatch):
    """Of options as of the environment, which is left as it is where it says the same."""
    for name, text in {"BITS": "12", "SKIP": "1", "TOP": "20", "IMAGES": "a"}.items():
        monkeypatch.setenv(f"SSDH_{name}", text)
    options = {"bits": "48 64", "skip": "", "top": "", "images": ODD, "seed": "0", "fine": "1"}
    more = {"alpha": "1e-7", "iters": "", "dataset": "digits"}
    words = [word for name, text in (options | more).items() for word in (f"--{name}", text)]
    monkeypatch.setattr("sys.argv", ["x", *words])
    names = [name.upper() for name in (*options, *more, "weights", "net")]
    values = parse(None, names)
    environment = environment_of(values)
    assert environment["SSDH_IMAGES"] == ODD and environment["SSDH_SEED"] == "0"
    assert not {"SSDH_ITERS", "SSDH_NET"} & environment.keys()
    monkeypatch.setattr("os.environ", environment)
    monkeypatch.setattr("sys.argv", ["x"])
    assert parse(None, names) == values
    assert environment_of(values) == environment


@pytest.mark.parametrize("argument", ["--bit=12", "--seed=1", "file", "--"])
def test_what_a_command_does_not_know_is_refused(monkeypatch, argument):
    monkeypatch.setattr("sys.argv", ["x", argument, "x"])
    with pytest.raises(Failure, match="is not known here; --help lists what is"):
        parse(None, ("BITS",))


def test_what_is_left_is_given_back_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "codes.h5", "--workers", "2", "-k", "5"])
    values, others = parse_known(None, ("WORKERS",))
    assert values.workers == 2
    assert others == ["codes.h5", "-k", "5"]


def test_help_names_the_variables(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["x", "--help"])
    with pytest.raises(SystemExit):
        parse("What it does.", ("BITS", "CIFAR10_ARCHIVE"))
    page = capsys.readouterr().out
    assert "What it does." in page and "--cifar10-archive" in page
    assert TABLE["CIFAR10_ARCHIVE"].help.split(";")[0] in page


@pytest.fixture
def forwarded(tmp_path):
    """Run make with a command in Python's place; return the SSDH_ variables that it got."""
    python, dump = tmp_path / "python", tmp_path / "dump"
    python.write_text(f"#!/bin/sh\nexec env -0 >{shlex.quote(str(dump))}\n")
    python.chmod(0o755)

    def run(*arguments, **environment):
        subprocess.run(
            ["make", "-o", "venv", "-o", "caffe", "data", f"PYTHON={python}", *arguments],
            cwd=REPO,
            env=os.environ | environment,
            check=True,
        )
        pairs = (pair.partition("=") for pair in dump.read_text().split("\0"))
        return {name.removeprefix("SSDH_"): text for name, _, text in pairs if name[:5] == "SSDH_"}

    return run


@pytest.mark.parametrize("origin", ["arguments", "environment"])
def test_make_passes_every_variable_on_as_it_is(forwarded, origin):
    """Neither make nor a shell expands them: ODD would touch files, and end at its newline."""
    given = {name: f"{name} {ODD}" for name in TABLE}
    if origin == "environment":
        found = forwarded(**given)
        del given["HOST"], given["PORT"]  # shells set HOST to this machine's name
    else:
        found = forwarded(*(f"{name}={text}" for name, text in given.items()))
    assert {name: text for name, text in found.items() if name in TABLE} == given
    assert not (REPO / "gone").exists()


def test_make_passes_nothing_that_was_not_given(forwarded):
    found = forwarded("TOP=5", "IMAGES=", SSDH_BITS="12")  # an outer call's is not this one's
    assert {name: text for name, text in found.items() if name in TABLE} == {
        "TOP": "5",
        "IMAGES": "",
    }


@pytest.mark.parametrize(
    "sign", ["$(shell touch %s).jpg", "`touch %s`", "$$(touch %s)", "';touch %s'"]
)
def test_a_path_reaches_the_sentence_as_it_was_given(tmp_path, sign):
    text = str(tmp_path / "pictures ") + sign % (tmp_path / "gone")
    done = subprocess.run(
        ["make", "data", "DATASET=folder", f"IMAGES={text}", f"DATA_ROOT={tmp_path}/data"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"error: {text}" in done.stderr
    assert not (tmp_path / "gone").exists()


def test_what_make_would_do_with_them_is_not_even_printed(tmp_path):
    text = f"$(shell touch {tmp_path}/gone)"
    done = subprocess.run(
        ["make", "-n", "codes", f"IMAGES={text}", f"RUN={text}"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "gone" not in done.stdout
    assert not (tmp_path / "gone").exists()
