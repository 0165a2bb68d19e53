"""A trained net for where there is no Caffe: ONNX, OpenCV's form, codes, a page, and the proof."""
