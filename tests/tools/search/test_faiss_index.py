"""FAISS indexes beside eval's ranking, on codes that tie as learned ones do."""

import faiss
import numpy as np
import pytest

from eval.bench.common import clustered_codes
from eval.hamming import nearest
from tools.run.failure import Failure
from tools.search.faiss_index import KINDS, build, padded, read

ROWS, QUERIES, TOP = 4000, 30, 200


@pytest.fixture(scope="module", params=[8, 12, 48, 100, 600])
def codes(request):
    """(bits, database codes, query codes)."""
    database, _ = clustered_codes(ROWS, request.param, 10, seed=1)
    return request.param, database, clustered_codes(QUERIES, request.param, 10, seed=2)[0]


def test_flat_is_eval_s_ranking_ties_included(codes):
    bits, database, queries = codes
    distances, rows = build("flat", database, bits).search(padded(queries, bits), TOP)
    for i, query in enumerate(queries):
        expected_rows, expected = nearest(query, database, TOP)
        np.testing.assert_array_equal(distances[i], expected)
        np.testing.assert_array_equal(rows[i], expected_rows)


@pytest.mark.parametrize("kind", ["ivf", "multihash"])
def test_approximate_kinds_give_true_distances_and_nearly_the_nearest(codes, kind):
    bits, database, queries = codes
    distances, rows = build(kind, database, bits).search(padded(queries, bits), 10)
    hits = total = 0
    for i, query in enumerate(queries):
        some = rows[i] >= 0
        unequal = np.unpackbits(database[rows[i][some]] ^ query, axis=1).sum(axis=1)
        np.testing.assert_array_equal(distances[i][some], unequal)
        assert len(set(rows[i][some])) == np.count_nonzero(some)
        farthest = nearest(query, database, 10)[1][-1]
        hits, total = hits + np.count_nonzero(distances[i][some] <= farthest), total + 10
    assert hits / total > 0.75


@pytest.mark.parametrize("kind", KINDS)
def test_read_back_it_answers_the_same_and_grows(tmp_path, kind):
    database, _ = clustered_codes(ROWS, 48, 10, seed=1)
    more, _ = clustered_codes(100, 48, 10, seed=3)
    path = tmp_path / "index.faiss"
    built = build(kind, database, 48)
    faiss.write_index_binary(built, str(path))
    for index in (read(path), read(path, kind)):
        for found, expected in zip(
            index.search(padded(more, 48), 10), built.search(padded(more, 48), 10), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    whole = read(path)
    whole.add(padded(more, 48))
    distances, rows = whole.search(padded(more, 48), 1)
    assert whole.ntotal == ROWS + 100
    assert (distances == 0).all()
    unequal = np.concatenate([database, more])[rows[:, 0]] != more
    assert not unequal.any()


def test_a_single_code_is_indexed():
    one = np.zeros((1, 6), np.uint8)
    for kind in KINDS:
        distances, rows = build(kind, one, 48).search(padded(one, 48), 3)
        assert (distances[0, 0], rows[0].tolist()) == (0, [0, -1, -1])


def test_damaged_files_and_codes_of_another_length_are_refused(tmp_path):
    path = tmp_path / "index.faiss"
    faiss.write_index_binary(build("flat", np.zeros((50, 6), np.uint8), 48), str(path))
    path.write_bytes(path.read_bytes()[:100])
    for mapped in ("", "flat"):
        with pytest.raises(Failure, match="index.faiss is damaged"):
            read(path, mapped)
    with pytest.raises(ValueError, match="packed codes of 48 bits"):
        padded(np.zeros((3, 8), np.uint8), 48)
