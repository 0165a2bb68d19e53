"""The child's side of tools/run/child.py: calls the function that it was started for."""

import importlib
import os
import pickle
import signal
import sys
from contextlib import suppress

from tools.run.failure import FAMILY, Interrupted, sentence_of


def main() -> None:
    """Read the request, call its function, and leave the outcome in the request's place.

    The outcome is the pickled result with exit code 0, or the sentence of a Failure with 1.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what leaves nothing behind
    with os.fdopen(int(sys.argv[1]), "r+b") as request:
        request.seek(0)
        name, values = pickle.load(request)
        module, _, function = name.rpartition(".")
        code = 0
        request.seek(0)
        request.truncate()
        try:
            outcome = pickle.dumps(getattr(importlib.import_module(module), function)(**values))
        except (*FAMILY, OSError) as error:
            outcome, code = sentence_of(error).encode(), 1
            with suppress(OSError):  # the log may be on the disk that failed
                print(f"error: {sentence_of(error)}", file=sys.stderr)
        except Interrupted as interrupted:
            outcome, code = b"", interrupted.args[0]
        request.write(outcome)
    sys.exit(code)


if __name__ == "__main__":
    main()
