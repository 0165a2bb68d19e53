"""Every template builds as a real Caffe net, and the recipes hold field by field."""

import hashlib

import caffe
import numpy as np
import pytest

from eval.tables import CLASSIFICATIONS, LOSS_TERMS, METHODS, PROTOTXT
from tools.net import render
from tools.run.job import takes_several, weights_of
from tools.run.nets import nets

NETS = nets()
TRAINED = [(name, method) for name, net in NETS.items() for method in net.methods]
HASHING = [(name, method) for name, method in TRAINED if METHODS[method].codes]
NAMES = {  # latent layer, its sigmoid, classifier: as the releases name them
    "kevinnet": ("fc8_kevin", "fc8_kevin_encode", "fc8_pascal"),
    "ssdh": ("latent", "latent_sigmoid", "fc9"),
    "vgg": ("latent_layer", "encode_neuron", "fc8_classification"),
}
CAFFENET = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


def names(net, method):
    return NAMES["vgg" if net.startswith("vgg") else method]


def files(net, method="ssdh", bits=48, classes=10, seed=42, loss="", head=False):
    """{file name: text} of a net with its own iterations and batch."""
    return render.render(
        NETS[net],
        method,
        loss=loss,
        head_alone=head,
        data="data",
        folder="run",
        iters=NETS[net].iters,
        classes=classes,
        bits=bits,
        batch=NETS[net].batch,
        seed=seed,
        **render.loss_weights(),
    )


def rendered(net, name, method="ssdh", **others):
    return render.parse(files(net, method, **others)[name], name)


def by_name(net, method="ssdh"):
    return {layer.name: layer for layer in rendered(net, "train_val.prototxt", method=method).layer}


def data_layers(net, method="ssdh"):
    param = rendered(net, "train_val.prototxt", method=method)
    data = {layer.include[0].phase: layer for layer in param.layer if layer.name == "data"}
    return data[caffe.TRAIN], data[caffe.TEST]


def fillers(layer):
    param = layer.inner_product_param
    return (
        *(param.weight_filler.type, round(param.weight_filler.std, 6)),
        *(param.bias_filler.type, param.bias_filler.value),
    )


def multipliers(layer):
    return [(p.lr_mult, p.decay_mult) for p in layer.param]


@pytest.mark.parametrize("bits", [8, 12, 48, 1024])
@pytest.mark.parametrize(("net", "method"), HASHING)
def test_deploy_builds_and_gives_codes_and_probabilities(tmp_path, net, method, bits):
    """With narrow fully connected layers: their width is not the point, and fills memory."""
    classes = 397 if bits == 1024 else 10
    path = tmp_path / "deploy.prototxt"
    text = files(net, method, bits, classes)["deploy.prototxt"]
    path.write_text(text.replace("num_output: 4096", "num_output: 16"))
    built = caffe.Net(str(path), caffe.TEST)
    blobs = NETS[net].blobs(method)
    assert built.blobs[blobs.code].data.shape == (1, bits)
    if blobs.classifier:
        assert built.blobs[blobs.probabilities].data.shape == (1, classes)
    else:
        assert blobs.probabilities not in built.blobs
    assert blobs.features in built.blobs and blobs.data in built.inputs


def test_each_bit_of_dnnh_is_encoded_from_its_own_slice(tmp_path):
    """In its value, and in its gradient by finite differences."""
    bits, random = 8, np.random.default_rng(0)
    path = tmp_path / "deploy.prototxt"
    text = files("lenet", "dnnh", bits)["deploy.prototxt"]
    path.write_text("force_backward: true " + text)
    built = caffe.Net(str(path), caffe.TEST)
    weights, biases = (each.data for each in built.params["hash"])
    weights[...] = random.standard_normal(weights.shape)
    biases[...] = random.standard_normal(biases.shape)
    slices = random.random(built.blobs["slices"].data.shape).astype(np.float32)

    def encode(values):
        built.blobs["slices"].data[...] = values
        return built.forward(start="slices_map", end="hash_sigmoid")["hash_sigmoid"][0].copy()

    of_bit = slices.reshape(bits, -1)
    encoded = (of_bit * weights.reshape(bits, -1)).sum(axis=1) + biases
    np.testing.assert_allclose(encode(slices), 1 / (1 + np.exp(-encoded)), rtol=1e-5)
    for bit in range(bits):
        up, down = of_bit.copy(), of_bit.copy()
        up[bit, 3] += 0.01
        down[bit, 3] -= 0.01
        change = encode(up.reshape(slices.shape)) - encode(down.reshape(slices.shape))
        assert np.flatnonzero(change).tolist() == [bit]
        encode(slices)
        built.blobs["hash_sigmoid"].diff[...] = np.eye(bits)[bit]
        built.backward(start="hash_sigmoid", end="slices_map")
        gradient = built.blobs["slices"].diff.reshape(bits, -1)
        assert np.flatnonzero(np.abs(gradient).sum(axis=1)).tolist() == [bit]
        assert gradient[bit, 3] == pytest.approx(change[bit] / 0.02, rel=0.02, abs=1e-4)


@pytest.mark.parametrize(("net", "method"), [pair for pair in HASHING if pair[1] in NAMES])
def test_the_layers_behind_the_features_are_called_as_in_the_releases(net, method):
    blobs = NETS[net].blobs(method)
    assert (blobs.latent, blobs.code, blobs.classifier) == names(net, method)


@pytest.mark.parametrize("net", ["alexnet", "lenet", "cifar_small", "efficientnet_lite0"])
def test_a_finetune_net_has_a_classifier_on_the_features_and_no_codes(net):
    assert NETS[net].blobs("finetune").code is None
    layers = by_name(net, "finetune")
    assert list(layers["fc8_pascal"].bottom) == [NETS[net].features]
    losses = [layer.name for layer in layers.values() if "Loss" in layer.type or layer.loss_weight]
    assert losses == ["classification"]


@pytest.mark.parametrize(("net", "method"), TRAINED)
def test_train_val_has_the_layers_of_deploy(net, method):
    """Same names, types and shapes of everything learned, so that weights copy by name."""

    def learned(param):
        return {
            layer.name: (layer.type, layer.convolution_param.num_output, layer.bottom[0])
            for layer in param.layer
            if layer.type in ("Convolution", "InnerProduct", "BatchNorm", "Scale")
        }

    both = [rendered(net, f"{name}.prototxt", method=method) for name in ("train_val", "deploy")]
    assert learned(both[0]) == learned(both[1])


@pytest.mark.parametrize(("net", "method"), TRAINED)
def test_every_net_has_the_names_that_are_asked_for(net, method):
    """Data and label, the method's loss terms, and the accuracy of a test net with a classifier."""
    blobs = NETS[net].blobs(method)
    param = rendered(net, "train_val.prototxt", method=method)
    tops = {top for layer in param.layer for top in layer.top}
    assert {blobs.data, blobs.label} <= tops
    assert {blobs.accuracy, blobs.classifier} & tops == (
        {blobs.accuracy, blobs.classifier} if blobs.classifier else set()
    )
    assert {name for name in LOSS_TERMS if name in tops} == set(METHODS[method].losses)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_has_the_weights_of_its_method_s_terms_as_placeholders(method):
    """Those that are refused for the method have none, and would be ignored in silence."""
    text = (PROTOTXT / "heads" / method / "train_val.prototxt").read_text()
    found = {name for name in render.loss_weights() if f"${name}" in text}
    assert found == {variable.lower() for variable in weights_of(METHODS[method])}


@pytest.mark.parametrize("net", NETS)
def test_the_three_terms_and_their_weights(net):
    layers = by_name(net)
    _, sigmoid, classifier = names(net, "ssdh")
    assert layers["classification"].type == "SoftmaxWithLoss"
    assert layers["binarization"].python_param.layer == "BinarizationLossLayer"
    assert layers["balance"].python_param.layer == "BalanceLossLayer"
    for name in ("classification", "binarization", "balance"):
        assert list(layers[name].loss_weight) == [1]
    assert layers[sigmoid].type == "Sigmoid"
    for name in (classifier, "binarization", "balance"):
        assert list(layers[name].bottom) == [sigmoid]


@pytest.mark.parametrize(
    ("net", "method", "latent", "classifier"),
    [
        ("alexnet", "ssdh", (0.01, 0), 0.2),
        ("alexnet", "kevinnet", (0.005, 1), 0.01),
        ("vgg16", "ssdh", (0.005, 1), 0.01),
        ("vgg16_avg", "ssdh", (0.005, 1), 0.01),
    ],
)
def test_names_fillers_and_multipliers_are_the_releases(net, method, latent, classifier):
    layers = by_name(net, method)
    names_here = names(net, method)
    for name, layer in layers.items():
        if layer.type in ("Convolution", "InnerProduct") and name != names_here[2]:
            assert multipliers(layer) == [(1, 1), (2, 0)], name
    assert multipliers(layers[names_here[2]]) == [(10, 1), (20, 0)]
    assert fillers(layers[names_here[0]]) == ("gaussian", latent[0], "constant", latent[1])
    assert fillers(layers[names_here[2]]) == ("gaussian", classifier, "constant", 0)
    assert layers[names_here[0]].inner_product_param.num_output == 48
    assert layers[names_here[2]].inner_product_param.num_output == 10
    assert list(layers[names_here[0]].bottom) == [NETS[net].features]


def test_kevinnet_is_trained_by_classification_alone():
    layers = by_name("alexnet", "kevinnet")
    losses = [layer.name for layer in layers.values() if "Loss" in layer.type or layer.loss_weight]
    assert losses == ["classification"]
    assert not any(layer.type == "Python" for layer in layers.values())


def test_finetune_is_caffenet_with_a_new_classifier():
    layers = by_name("alexnet", "finetune")
    learned = [n for n, layer in layers.items() if layer.type in ("Convolution", "InnerProduct")]
    assert learned == [*CAFFENET, "fc8_pascal"]
    assert multipliers(layers["fc8_pascal"]) == [(10, 1), (20, 0)]
    solver = rendered("alexnet", "solver.prototxt", method="finetune")
    assert solver == rendered("alexnet", "solver.prototxt")


@pytest.mark.parametrize(
    ("net", "method", "crop", "batches", "mirrored_tests"),
    [
        ("alexnet", "ssdh", 227, (32, 50), False),
        ("alexnet", "kevinnet", 227, (32, 32), True),
        ("alexnet", "finetune", 227, (32, 50), False),
        ("vgg16", "ssdh", 224, (40, 50), False),
        ("vgg16_avg", "ssdh", 224, (40, 50), False),
    ],
)
def test_pictures_come_as_in_the_releases(net, method, crop, batches, mirrored_tests):
    train, test = data_layers(net, method)
    assert (train.transform_param.crop_size, test.transform_param.crop_size) == (crop, crop)
    assert (train.transform_param.mirror, test.transform_param.mirror) == (True, mirrored_tests)
    assert (train.data_param.batch_size, test.data_param.batch_size) == batches
    assert (NETS[net].side, NETS[net].channels, NETS[net].mean) == (256, 3, "imagenet")


@pytest.mark.parametrize(
    ("net", "method", "tests", "seed"),
    [
        ("alexnet", "ssdh", (200, 1000), 42),
        ("alexnet", "kevinnet", (100, 100), -1),
        ("vgg16", "ssdh", (200, 1000), 42),
        ("vgg16_avg", "ssdh", (200, 1000), 42),
    ],
)
def test_solvers_are_the_releases(net, method, tests, seed):
    """KevinNet's has no seed: -1 is what Caffe takes where there is none."""
    assert METHODS[method].seed == seed
    solver = rendered(net, "solver.prototxt", method=method, seed=seed)
    expected = {
        "base_lr": 0.001,
        "lr_policy": "step",
        "gamma": 0.1,
        "stepsize": 25000,
        "max_iter": 50000,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "test_interval": tests[1],
        "random_seed": seed,
    }
    for field, value in expected.items():
        got = getattr(solver, field)
        assert got == (value if isinstance(value, (str, int)) else pytest.approx(value)), field
    assert list(solver.test_iter) == [tests[0]]


def test_vgg16_is_vgg16_and_vgg16_avg_averages_the_whole_map(tmp_path):
    """Configuration D of Simonyan and Zisserman, without fillers."""
    for net in ("vgg16", "vgg16_avg"):
        layers = by_name(net)
        widths = [
            layer.convolution_param.num_output
            for layer in layers.values()
            if layer.type == "Convolution"
        ]
        assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
        for name, layer in layers.items():
            if name.startswith(("conv", "fc6", "fc7")):
                param = layer.convolution_param if "conv" in name else layer.inner_product_param
                assert not param.HasField("weight_filler")
        path = tmp_path / "deploy.prototxt"
        text = files(net)["deploy.prototxt"]
        path.write_text(text.replace("num_output: 4096", "num_output: 16"))
        built = caffe.Net(str(path), caffe.TEST)
        assert built.blobs["conv5_3"].data.shape == (1, 512, 14, 14)
        pooled = (1, 512, 1, 1) if net == "vgg16_avg" else (1, 512, 7, 7)
        assert built.blobs["pool5"].data.shape == pooled
        assert ("fc6" in layers) == (net == "vgg16")


def test_alexnet_is_caffenet_below_the_latent_layer():
    """Shapes of every layer that the pretrained model fills, as CaffeNet has them."""
    shapes = {
        "conv1": (96, 11, 4, 0, 1),
        "conv2": (256, 5, 1, 2, 2),
        "conv3": (384, 3, 1, 1, 1),
        "conv4": (384, 3, 1, 1, 2),
        "conv5": (256, 3, 1, 1, 2),
    }
    layers = {layer.name: layer for layer in rendered("alexnet", "deploy.prototxt").layer}
    for name, shape in shapes.items():
        p = layers[name].convolution_param
        stride, pad = (p.stride or [1])[0], (p.pad or [0])[0]
        assert (p.num_output, p.kernel_size[0], stride, pad, p.group) == shape, name
    order = [layer.name for layer in rendered("alexnet", "deploy.prototxt").layer]
    assert order.index("pool1") < order.index("norm1")  # CaffeNet pools before it normalizes
    assert layers["fc6"].inner_product_param.num_output == 4096
    assert layers["fc7"].inner_product_param.num_output == 4096


def test_nin_is_caffe_dnnhs_trunk():
    """Maps, kernel, pad and deviation of each layer; cccp7 there, on maps, is the slices here."""
    layers = by_name("nin", "dnnh")
    expected = {
        "conv1": (96, 5, 2, 0.05),
        "cccp1": (96, 1, 0, 0.05),
        "conv2": (256, 5, 2, 0.01),
        "cccp2": (256, 1, 0, 0.05),
        "conv3": (384, 1, 0, 0.01),
        "cccp3": (384, 1, 0, 0.05),
        "conv4": (1024, 3, 1, 0.01),
    }
    for name, (maps, kernel, pad, deviation) in expected.items():
        param = layers[name].convolution_param
        assert (param.num_output, list(param.kernel_size)) == (maps, [kernel]), name
        assert (list(param.pad) or [0]) == [pad] and not param.stride, name
        assert param.weight_filler.type == "gaussian"
        assert param.weight_filler.std == pytest.approx(deviation), name
    for name, layer in layers.items():
        if layer.type in ("Convolution", "InnerProduct"):
            assert multipliers(layer) == [(1, 1), (2, 0)], name
    assert fillers(layers["slices"]) == ("gaussian", 0.05, "constant", 0)
    assert layers["slices"].inner_product_param.num_output == 48 * 50
    assert layers["hash"].convolution_param.weight_filler.std == pytest.approx(0.1)
    pools = [layers[f"pool{number}"].pooling_param for number in (1, 2, 3)]
    assert [(each.pool, each.kernel_size, each.stride) for each in pools] == [
        (kind, 3, 2) for kind in (pools[0].MAX, pools[0].MAX, pools[0].AVE)
    ]
    solver = rendered("nin", "solver.prototxt", method="dnnh")
    assert (solver.base_lr, solver.gamma) == (pytest.approx(0.001), pytest.approx(0.1))
    assert (solver.lr_policy, list(solver.stepvalue)) == ("multistep", [60000, 70000])
    assert solver.max_iter == 100000 and solver.weight_decay == pytest.approx(0.0005)


def is_loss(layer):
    """Whether a layer, of a training net, is a loss or the accuracy."""
    return layer.loss_weight or "Loss" in layer.type or layer.type in ("Python", "Accuracy")


def test_every_layer_starts_with_variance(tmp_path):
    """From scratch, no layer of a net that starts from nothing is all zeros."""
    for net, method in TRAINED:
        if NETS[net].weights != "none":
            continue
        text = files(net, method)["train_val.prototxt"]
        param = render.parse(text, "train_val.prototxt")
        side = param.layer[0].transform_param.crop_size or NETS[net].side
        kept = [layer for layer in param.layer if layer.type != "Data" and not is_loss(layer)]
        del param.layer[:]  # the Data layers need an LMDB; fillers do not
        param.layer.extend(kept)
        head = (
            'layer { name: "data" type: "Input" top: "data" top: "label" input_param { '
            f"shape {{ dim: 2 dim: {NETS[net].channels} dim: {side} dim: {side} }} "
            "shape { dim: 2 } } }\n"
        )
        path = tmp_path / f"{net}.prototxt"
        path.write_text(head + str(param))
        built = caffe.Net(str(path), caffe.TRAIN)
        for name, blobs in built.params.items():
            if not name.endswith("_norm"):  # BatchNorm's statistics start at zero
                assert np.ptp(blobs[0].data) > 0 or name.endswith("_scale"), name


# ---- how the classifier learns ------------------------------------------------------------------

ONE_LABEL = {  # beginning of the SHA-256 of a net's files by method, from before there was LOSS
    "alexnet ssdh": "f34d1ffc571df142",
    "alexnet kevinnet": "3d4b77123a7a9ea7",
    "alexnet finetune": "55ed08605182271b",
    "vgg16 ssdh": "c1f0cdf6b666f2a5",
    "vgg16_avg ssdh": "2d2facfeb33983f3",
    "lenet ssdh": "0e2dbf5c6fef919b",
    "lenet kevinnet": "e42eee8e5d392417",
    "lenet finetune": "8b4aafe715e7f3b2",
    "cifar_small ssdh": "844e8eb2cc11db8c",
    "cifar_small kevinnet": "35787d16c71fb5f3",
    "cifar_small finetune": "616ef20f5e729b67",
}
SEVERAL = [name for name, each in CLASSIFICATIONS.items() if each.several]
OF_SEVERAL = [pair for pair in TRAINED if takes_several(METHODS[pair[1]])]


def test_of_one_label_nets_are_what_they_were():
    """To the last byte of what a fingerprint looks at; these are of runs that there are."""
    found = {}
    for net, method in TRAINED:
        digest = hashlib.sha256()
        for name, text in sorted(files(net, method).items()):
            text = text.replace(f"max_iter: {NETS[net].iters}", "max_iter: 0")
            lines = (line.partition("#")[0].strip() for line in text.splitlines())
            digest.update("\n".join([name, *(line for line in lines if line)]).encode())
        found[f"{net} {method}"] = digest.hexdigest()[:16]
    assert {name: found[name] for name in ONE_LABEL} == ONE_LABEL


@pytest.mark.parametrize("loss", SEVERAL)
@pytest.mark.parametrize(("net", "method"), OF_SEVERAL)
def test_several_labels_come_from_an_lmdb_of_their_own(net, method, loss):
    """As many at a time as pictures; classification by the loss, no accuracy, Sigmoid in deploy."""
    plain, text = files(net, method), files(net, method, loss=loss)
    param = render.parse(text["train_val.prototxt"], "train_val.prototxt")
    for phase, split in ((caffe.TRAIN, "train"), (caffe.TEST, "test")):
        pictures, labels = (
            layer
            for layer in param.layer
            if layer.type == "Data" and phase == layer.include[0].phase
        )
        assert (list(pictures.top), list(labels.top)) == (["data"], ["label"])
        assert pictures.data_param.source == f"data/{split}_lmdb"
        assert labels.data_param.source == f"data/{split}_labels_lmdb"
        assert pictures.data_param.batch_size == labels.data_param.batch_size > 0
        assert not labels.HasField("transform_param")
    layers = {layer.name: layer for layer in param.layer}
    assert "accuracy" not in layers
    one = {layer.name: layer for layer in render.parse(plain["train_val.prototxt"], "x").layer}
    changed = [name for name, layer in layers.items() if layer != one.get(name)]
    assert changed == ["data", "label", "classification"]
    layer, before = layers["classification"], one["classification"]
    assert (layer.bottom, layer.top) == (before.bottom, before.top)
    # by default Caffe weighs its own losses by 1, and a Python layer by 0
    weight = list(before.loss_weight) or ([] if loss == "sigmoid" else [1])
    assert list(layer.loss_weight) == weight and weight in ([], [1])
    if loss == "sigmoid":
        assert layer.type == "SigmoidCrossEntropyLoss"
    else:
        param = layer.python_param
        assert (param.module, param.layer) == ("margin_loss", "MarginLossLayer")
        assert param.param_str == loss.removeprefix("margin")
    deploy = render.parse(text["deploy.prototxt"], "deploy.prototxt")
    assert (deploy.layer[-1].name, deploy.layer[-1].type) == ("prob", "Sigmoid")
    assert text["solver.prototxt"] == plain["solver.prototxt"]


@pytest.mark.parametrize("loss", SEVERAL)
def test_a_head_alone_takes_several_labels_with_its_features(loss):
    param = render.parse(files("lenet", loss=loss, head=True)["head.prototxt"], "head.prototxt")
    layers = {layer.name: layer for layer in param.layer}
    assert list(layers["data"].top) == ["data", "label"]
    assert "accuracy" not in layers and "label" not in layers
    assert layers["classification"].type != "SoftmaxWithLoss"


def test_sigmoids_cross_entropy_is_summed_over_labels_and_averaged_over_pictures(tmp_path):
    """Caffe's own layer, by its defaults, so that it and the margin loss are on one scale."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "in" type: "Input" top: "t" top: "label" input_param { '
        "shape { dim: 5 dim: 7 } shape { dim: 5 dim: 7 dim: 1 dim: 1 } } } "
        'layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "t" bottom: "label" '
        'top: "loss" }'
    )
    net, random = caffe.Net(str(path), caffe.TEST), np.random.RandomState(0)
    t, y = random.standard_normal((5, 7)), random.randint(0, 2, (5, 7))
    net.blobs["t"].data[...], net.blobs["label"].data[...] = t, y[..., None, None]
    probability = 1 / (1 + np.exp(-t))
    expected = -np.log(np.where(y, probability, 1 - probability)).sum() / 5
    assert float(net.forward()["loss"]) == pytest.approx(expected, rel=1e-5)
