import numpy as np
import pytest

from eval.hamming import code_words, constant_bits, distinct_codes, hamming_distances, nearest


@pytest.mark.parametrize("bits", [1, 12, 64, 100, 1024])
def test_distances_equal_a_count_of_unequal_bits(bits):
    random = np.random.default_rng(bits)
    query, database = random.random(bits) < 0.5, random.random((70, bits)) < 0.5
    words = code_words(np.packbits(database, axis=1))
    distances = np.empty(50, np.uint16)
    hamming_distances(code_words(np.packbits(query[None], axis=1))[:, 0], words, 20, 70, distances)
    assert distances.tolist() == (query != database[20:]).sum(axis=1).tolist()


def test_nearest_breaks_ties_in_database_order():
    database = np.array([[0b11], [0b01], [0b00], [0b10], [0b00]], np.uint8)
    rows, distances = nearest(np.array([0], np.uint8), database, 4)
    assert rows.tolist() == [2, 4, 1, 3]
    assert distances.tolist() == [0, 0, 1, 1]
    assert len(nearest(np.array([0], np.uint8), database, 10)[0]) == 5


def test_distinct_codes_with_zero_bytes():
    codes = np.array([[1, 0], [0, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
    first, place, count = distinct_codes(codes)
    np.testing.assert_array_equal(codes[first][place], codes)
    assert count.tolist() == [1, 1, 2, 1]


def test_constant_bits_are_those_of_the_code_without_its_padding():
    bits = np.random.default_rng(0).random((50, 12)) < 0.5
    bits[:, 3], bits[:, 9] = True, False
    assert constant_bits(np.packbits(bits, axis=1), 12) == 2
    assert constant_bits(np.packbits(bits[:, [0, 1]], axis=1), 2) == 0
