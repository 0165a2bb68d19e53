"""What Caffe's data transformer does to a picture in the TEST phase, in NumPy, to the last bit."""

import numpy as np


def transform_param(train_val):
    """Return the TransformationParameter of a train_val net's TEST data layer (a NetParameter)."""
    from caffe.proto import caffe_pb2

    for layer in train_val.layer:
        if layer.type == "Data" and caffe_pb2.TEST in [rule.phase for rule in layer.include]:
            return layer.transform_param
    raise ValueError(f"{train_val.name} has no Data layer for the TEST phase")


def mean_image(path):
    """Return a binaryproto's mean image, float32, C x H x W."""
    from caffe.proto import caffe_pb2

    with open(path, "rb") as file:
        blob = caffe_pb2.BlobProto.FromString(file.read())
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    return np.array(blob.data, np.float32).reshape(shape[-3:])


def transform(pictures, mean, crop, scale):
    """Return pictures as the net gets them, float32, N x C x S x S.

    pictures: uint8, N x C x H x W, BGR. mean: float32, C x H x W. crop: the side S of the centre
    crop, 0 for none. scale: float. Caffe computes (picture - mean) * scale, with the mean cropped
    like the picture.
    """
    pictures = pictures.astype(np.float32) - mean
    if crop:
        top, left = ((side - crop) // 2 for side in pictures.shape[2:])
        pictures = pictures[:, :, top : top + crop, left : left + crop]
    return pictures * np.float32(scale)
