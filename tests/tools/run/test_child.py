"""Functions in processes of their own: what comes back, and what is said of how they end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tools.run import child
from tools.run.failure import Failure, Interrupted
from tools.run.job import REPO


@pytest.fixture
def call(tmp_path):
    """Call a function of child_functions.py in a process of its own."""

    def run(name, **values):
        values = {"threads": 1, "log": tmp_path / "log"} | values
        return child.call(f"tests.tools.run.child_functions.{name}", **values)

    return run


def refusal(call, name, **values):
    with pytest.raises(Failure) as refused:
        call(name, **values)
    return str(refused.value)


def when(path, action):
    """Do something in another thread once a file is there."""

    def watch():
        while not path.exists():
            time.sleep(0.01)
        action()

    threading.Thread(target=watch, daemon=True).start()


def test_values_and_result_come_through(call, tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    values, environment, process, layers = call(
        *("give_back",),
        threads=3,
        variables={"GREETING": "good day"},
        path=Path("a b"),
        array=array,
        nothing=None,
    )
    assert list(values) == ["path", "array", "nothing"]
    assert values["path"] == Path("a b") and values["nothing"] is None
    np.testing.assert_array_equal(values["array"], array)
    assert values["array"].dtype == np.float32
    assert environment == {"OPENBLAS_NUM_THREADS": "3", "GREETING": "good day"}
    assert process != os.getpid()
    assert layers == "python_layers"
    assert "said on stderr\n" in (tmp_path / "log").read_text()
    assert "GREETING" not in os.environ


def test_its_stdin_is_empty_and_its_log_is_appended_to(call, tmp_path):
    (tmp_path / "log").write_text("before\n")
    assert call("read_stdin") == ""
    assert (tmp_path / "log").read_text().startswith("before\n")


def test_nothing_stays_open(call):
    call("read_stdin")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        call("read_stdin")
    with pytest.raises(Failure):
        call("fail", kind="Failure", sentence="x")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", ["Failure", "DataError", "InputError"])
def test_a_failure_s_sentence_comes_through_bare(call, tmp_path, kind):
    sentence = "é.png cannot be read; replace it"
    assert refusal(call, "fail", kind=kind, sentence=sentence) == sentence
    assert f"error: {sentence}\n" in (tmp_path / "log").read_text()


def test_an_error_of_the_system_is_a_sentence_too(call, tmp_path):
    said = refusal(call, "fail_in_the_system", path=tmp_path / "gone")
    assert said.startswith(f"{tmp_path}/gone: No such file or directory; ")


def test_a_sentence_needs_no_disk_for_its_log(call, tmp_path):
    said = refusal(call, "fail_in_the_system", log=Path("/dev/full"), path=tmp_path / "gone")
    assert said.startswith(f"{tmp_path}/gone: No such file or directory; ")


def test_a_failed_check_of_caffe_is_a_sentence(call, tmp_path):
    log = tmp_path / "log"
    log.write_text("F1124 1 earlier.cpp:1] Check failed: of an earlier call\n")
    said = refusal(call, "fail_a_check", folder=tmp_path)
    assert said.startswith("Caffe's process died of SIGABRT: Check failed: bottom[0]->shape() == ")
    assert said.endswith(f" (log: {log})")
    assert "\n" not in said


def test_another_exception_is_told_by_its_last_line(call, tmp_path):
    said = refusal(call, "break_down")
    assert said == f"Caffe's process failed: no such thing (log: {tmp_path / 'log'})"
    assert "Traceback" in (tmp_path / "log").read_text()


def test_what_ends_without_a_word_is_said(call, tmp_path):
    log = f" (log: {tmp_path / 'log'})"
    said = refusal(call, "kill_itself", number=signal.SIGKILL)
    assert said == f"Caffe's process died of SIGKILL: without a word{log}"
    assert refusal(call, "exit_with", code=3) == f"Caffe's process failed: without a word{log}"
    assert refusal(call, "exit_with", code=1) == f"Caffe's process failed: without a word{log}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_none_of_its_failures(call, capsys, number):
    with pytest.raises(Interrupted) as interrupted:
        call("say_interrupted", number=number)
    assert interrupted.value.args == (128 + number,)
    assert capsys.readouterr().err == ""  # it said so itself
    with pytest.raises(Interrupted) as interrupted:
        call("kill_itself", number=number)
    assert interrupted.value.args == (128 + number,)
    assert capsys.readouterr().err == f"stopped by {signal.Signals(number).name}\n"


def test_sigterm_is_passed_on_and_the_child_ends_in_its_own_time(call, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    when(tmp_path / "waits", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as interrupted:
        call("wait_for_sigterm", folder=tmp_path)
    assert interrupted.value.args == (128 + signal.SIGTERM,)
    assert (tmp_path / "ended").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigint_is_left_to_the_child(call, tmp_path):
    """The terminal sends Ctrl-C to both."""
    before = signal.getsignal(signal.SIGINT)
    when(tmp_path / "pid", lambda: os.kill(os.getpid(), signal.SIGINT))
    assert call("wait", folder=tmp_path, seconds=0.3) == "waited"
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("outlives", [False, True])
def test_a_child_ends_with_its_parent_unless_it_outlives_it(tmp_path, outlives):
    code = (
        "import sys, time; from pathlib import Path; from tools.run import child\n"
        "folder = Path(sys.argv[1])\n"
        "child.start('tests.tools.run.child_functions.wait', threads=1, log=folder / 'log',\n"
        f"            outlives={outlives}, folder=folder, seconds=60)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPO)
    while not (tmp_path / "pid").exists():
        assert parent.poll() is None
        time.sleep(0.01)
    process = psutil.Process(int((tmp_path / "pid").read_text()))
    parent.kill()
    parent.wait()
    try:
        gone, alive = psutil.wait_procs([process], timeout=0.5 if outlives else 10)
        assert bool(alive) == outlives
    finally:
        if process.is_running():
            process.kill()


def test_descriptors_to_keep_are_open_there(call, tmp_path):
    with open(tmp_path / "kept", "wb") as file:
        call("write_to", keep=(file.fileno(),), descriptor=file.fileno())
        assert not os.get_inheritable(file.fileno())
    assert (tmp_path / "kept").read_bytes() == b"kept"


def test_its_terminal_is_this_process_s_stderr(call, capfd, tmp_path):
    call("talk_on_the_terminal")
    assert capfd.readouterr().err == "a bar\n"
    assert "a bar" not in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_is_said(call, tmp_path):
    said = refusal(call, "read_stdin", log=tmp_path)
    assert said.startswith(f"{tmp_path}: Is a directory; ")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("I1 1 net.cpp:1] fine\n", ""),
        (
            "I1 x.cpp:1] a\nF1 1 x.cpp:2] Check failed: a\n*** Check failure stack ***\n",
            "Check failed: a",
        ),
        ("Traceback ...\n  x\nValueError: why\n", "why"),
        ("error: one\nerror: two\n", "two"),
        ("F1 1 x.cpp:2] Check failed: a\nValueError: later\n", "Check failed: a"),
        ("  ValueError: of a picture\n", ""),
    ],
)
def test_last_words(text, found):
    assert child.last_words(text) == found
