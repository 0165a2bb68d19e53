"""Hashing methods to compare with, learned on a net's feature layer.

Each module has `learn(training, bits, random)`, which returns `encode` and a dict to record:
`encode` takes features (n, F) float32 and returns bits (n, bits) bool. `random` is a NumPy
generator. `methods.py` has the table of them.
"""
