"""The releases' MATLAB preprocessing, against Octave where it is installed, and by formula."""

import shutil
import subprocess

import cv2
import numpy as np
import pytest

from tools.compare import matlab
from tools.net import preprocess

MEAN = np.random.default_rng(1).uniform(90, 130, (3, 256, 256)).astype(np.float32)
OCTAVE = """
pkg load image
[height, width] = deal({height}, {width});
picture = fread(fopen('{folder}/in', 'r'), [height * width * 3, 1], 'single=>single');
picture = reshape(picture, [height, width, 3]);
resized = imresize(picture, [256 256], 'bilinear');
% Octave leaves the weights of a stretched triangle as they are; MATLAB divides them by their sum,
% which is what a picture of ones comes out as
resized = resized ./ imresize(ones(size(picture), 'single'), [256 256], 'bilinear');
mean_data = reshape(fread(fopen('{folder}/mean', 'r'), Inf, 'single=>single'), [256, 256, 3]);
prepared = resized(:, :, [3 2 1]) - mean_data;
offsets = [0 256 - 227] + 1;
center = floor(offsets(2) / 2) + 1;
cropped = permute(prepared(center:center+226, center:center+226, :), [2 1 3]);
fwrite(fopen('{folder}/out', 'w'), cropped, 'single');
"""


def picture(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prepared(source, transposed=True):
    """A picture as alexnet's release gets it."""
    return matlab.transform(source, mean=MEAN, crop=227, scale=1, transposed_mean=transposed)


def by_formula(values, wanted):
    """MATLAB's bilinear imresize of one line, an output at a time."""
    size, scale = len(values), wanted / len(values)
    stretch = min(scale, 1)
    line = []
    for place in range(1, wanted + 1):
        centre = place / scale + 0.5 * (1 - 1 / scale)  # counted from 1
        total = weight = 0.0
        for at in range(int(centre - 2 / stretch) - 2, int(centre + 2 / stretch) + 3):
            part = max(0.0, 1 - abs(stretch * (centre - at)))
            mirrored = (at - 1) % (2 * size)
            mirrored = mirrored if mirrored < size else 2 * size - 1 - mirrored
            total += part * values[mirrored]
            weight += part
        line.append(total / weight)
    return np.array(line)


@pytest.mark.parametrize("size", [1, 28, 32, 256, 300, 1000])
def test_lines_are_resized_by_the_formula(size):
    values = np.random.default_rng(size).uniform(0, 255, size)
    np.testing.assert_allclose(matlab.resize_matrix(size, 256) @ values, by_formula(values, 256))


@pytest.mark.skipif(
    not shutil.which("octave-cli"),
    reason="Octave is not installed (Debian's octave and octave-image)",
)
@pytest.mark.parametrize("transposed", [True, False])
def test_octave_gives_the_same(tmp_path, transposed):
    """MATLAB's arrays stand column by column: SSDH's mean file has the image's rows there."""
    rgb = picture(40, 500)[:, :, ::-1].astype(np.float32)  # enlarged and shrunk
    rgb.transpose(2, 1, 0).tofile(tmp_path / "in")
    upright = MEAN if transposed else MEAN.transpose(0, 2, 1)
    upright.tofile(tmp_path / "mean")
    script = OCTAVE.format(height=40, width=500, folder=tmp_path)
    done = subprocess.run(["octave-cli", "--quiet", "--eval", script], capture_output=True)
    if b"package" in done.stderr and not (tmp_path / "out").exists():
        pytest.skip("Octave's image package is not installed (Debian's octave-image)")
    theirs = np.fromfile(tmp_path / "out", np.float32).reshape(3, 227, 227)
    ours = prepared(picture(40, 500), transposed)
    assert theirs.std() > 10
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("transposed", [True, False])
def test_the_mean_s_side_and_the_crop_s_place(transposed):
    """At 256 x 256 nothing is resized: every value is the picture's less the mean's, from 15 on."""
    source = picture(256, 256)
    ours = prepared(source, transposed)
    for channel, row, column in [(0, 0, 0), (1, 5, 200), (2, 226, 226)]:
        y, x = row + 15, column + 15
        mean = MEAN[channel, x, y] if transposed else MEAN[channel, y, x]
        assert ours[channel, row, column] == np.float32(source[y, x, channel]) - mean
    caffe_s = preprocess.transform(source.transpose(2, 0, 1)[None], MEAN, 227, 1)[0]
    assert caffe_s[1, 6, 201] == np.float32(source[20, 215, 1]) - MEAN[1, 20, 215]  # from 14 on


def test_files_grey_pictures_and_no_crop():
    png = cv2.imencode(".png", picture(30, 20))[1].tobytes()
    np.testing.assert_array_equal(
        prepared(png),
        prepared(picture(30, 20)),
    )
    grey = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    mean = MEAN[:1, :28, :28]
    ours = matlab.transform(grey, mean=mean, crop=0, scale=0.5, transposed_mean=False)
    np.testing.assert_array_equal(ours, (grey.astype(np.float32) - mean) * np.float32(0.5))
    assert prepared(grey).shape == (3, 227, 227)
    assert matlab.crop_offset(256, 224) == 16
