"""The evaluator with a progress bar, for commands that a person waits for."""

import numpy as np
from tqdm import tqdm

from eval.metrics import Figures, evaluate_queries


def evaluate_with_bar(**arguments: np.ndarray | int | None) -> Figures:
    """Return `evaluate_queries(**arguments)`, with a progress bar where there is a terminal."""
    with tqdm(total=len(arguments["query_codes"]), unit=" queries", disable=None) as bar:
        return evaluate_queries(**arguments, progress=bar.update)
