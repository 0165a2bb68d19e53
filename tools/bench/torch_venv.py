"""The virtual environment with PyTorch, .torch, for what is measured beside it."""

import subprocess
import sys

from tools.run.job import REPO

TORCH = "torch==2.13.0"
TORCH_VENV = REPO / ".torch"
PYTHON = TORCH_VENV / "bin" / "python"


def install_torch(*others: str) -> str:
    """Make it, with other packages too; return why there is none, or "" where there is one.

    others: as pip takes them, their modules of the same names with _ for -, as of "a-b==1" a_b.
    """
    modules = ["torch", *(other.partition("==")[0].replace("-", "_") for other in others)]
    code = f"import {', '.join(modules)}"
    if PYTHON.exists() and not subprocess.run([PYTHON, "-c", code], capture_output=True).returncode:
        return ""
    print(f"installing {' '.join((TORCH, *others))} into {TORCH_VENV}", file=sys.stderr)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", TORCH_VENV], check=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", TORCH, "numpy", *others]
    done = subprocess.run(pip, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""
