"""Evaluation of binary codes: metrics, tie figures, published numbers, report, benchmarks.

Everything here starts from a codes file (`eval.codes`) and runs without Caffe.
"""
