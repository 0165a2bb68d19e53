"""What test_child.py has run in other processes."""

import os
import signal
import sys
import time
from pathlib import Path

from data_prep import DataError
from eval.files import InputError
from tools.run import child
from tools.run.failure import Failure, Interrupted

FAMILY = {"Failure": Failure, "DataError": DataError, "InputError": InputError}


def give_back(**values):
    """Return the values that came, and what of the process they were asked in."""
    names = ("OPENBLAS_NUM_THREADS", "GREETING")
    environment = {name: os.environ.get(name) for name in names}
    import ssdh_losses  # of python_layers/

    print("said on stderr", file=sys.stderr)
    return values, environment, os.getpid(), Path(ssdh_losses.__file__).parent.name


def read_stdin():
    return sys.stdin.read()


def fail(kind, sentence):
    raise FAMILY[kind](sentence)


def break_down():
    raise ValueError("no such thing")


def fail_in_the_system(path):
    return path.read_text()


def exit_with(code):
    sys.exit(code)


def kill_itself(number):
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(60)


def say_interrupted(number):
    raise Interrupted(128 + number)


def fail_a_check(folder):
    """Have Caffe abort the process: a loss whose inputs do not fit each other."""
    import caffe

    path = Path(folder, "net.prototxt")
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 dim: 3 } } }\n'
        'layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "y" top: "sum" }\n'
    )
    caffe.Net(str(path), caffe.TEST)


def write_to(descriptor):
    os.write(descriptor, b"kept")


def talk_on_the_terminal():
    print("a bar", file=child.terminal())


def wait_for_sigterm(folder):
    """End in its own time after SIGTERM, as the training loop does with its snapshot."""
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    Path(folder, "waits").touch()
    while not came:
        time.sleep(0.01)
    Path(folder, "ended").touch()
    raise Interrupted(128 + signal.SIGTERM)


def wait(folder, seconds):
    partial = Path(folder, "pid.partial")
    partial.write_text(str(os.getpid()))
    partial.rename(Path(folder, "pid"))
    time.sleep(seconds)
    return "waited"
