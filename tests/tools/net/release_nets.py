"""The releases' deploy files, written down here from their structure, in all three syntaxes.

V0 (`layers { layer {`, padding as a layer of its own), V1 (`layers { type: CONVOLUTION`) and
today's (`layer { type: "Convolution"`). Fully connected layers can be narrow and the input small:
names, order, kernels, groups and pads are what matters.
"""

SIDE = 67  # of the input: CaffeNet's pool5 is 1 x 1 then

# name, type, bottom, top, parameters
HEADS = {
    "kevinnet": ("fc8_kevin", "fc8_kevin_encode", "fc8_pascal"),
    "ssdh": ("latent", "latent_sigmoid", "fc9"),
    "vgg16": ("latent_layer", "encode_neuron", "fc8_classification"),
    "vgg16_avg": ("latent_layer", "encode_neuron", "fc8_classification"),
}
VGG_BLOCKS = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}  # convolutions, width
VGG_MAP = 5  # side of conv5_3's map where the input's is SIDE
KIND = {  # ours: V1's, V0's
    "Convolution": ("CONVOLUTION", "conv"),
    "Pooling": ("POOLING", "pool"),
    "InnerProduct": ("INNER_PRODUCT", "innerproduct"),
    "ReLU": ("RELU", "relu"),
    "LRN": ("LRN", "lrn"),
    "Dropout": ("DROPOUT", "dropout"),
    "Sigmoid": ("SIGMOID", "sigmoid"),
}
PARAM = {"Convolution": "convolution", "Pooling": "pooling", "InnerProduct": "inner_product"}
PARAM |= {"LRN": "lrn", "Dropout": "dropout"}


def release_layers(model, bits, width):
    """Return the layers of a released deploy net, ending at the sigmoid.

    model: "kevinnet" and "ssdh" are CaffeNets, "vgg16" and "vgg16_avg" VGG16s.
    """
    layers = []

    def add(name, kind, bottom, top=None, **param):
        layers.append((name, kind, bottom, top or name, param))

    bottom = (vgg16 if model.startswith("vgg") else caffenet)(add, width, model)
    latent, sigmoid, _ = HEADS[model]
    add(latent, "InnerProduct", bottom, num_output=bits)
    add(sigmoid, "Sigmoid", latent)
    return layers


def full(add, number, bottom, width):
    """Add a fully connected layer; return its blob."""
    add(f"fc{number}", "InnerProduct", bottom, num_output=width)
    add(f"relu{number}", "ReLU", f"fc{number}", f"fc{number}")
    add(f"drop{number}", "Dropout", f"fc{number}", f"fc{number}", dropout_ratio=0.5)
    return f"fc{number}"


def vgg16(add, width, model):
    """Add VGG16's layers, without fc6 and fc7 those of VGG16-Avg; return the last blob."""
    bottom = "data"
    for block, (convolutions, channels) in VGG_BLOCKS.items():
        for number in range(1, convolutions + 1):
            name = f"conv{block}_{number}"
            add(name, "Convolution", bottom, num_output=channels, pad=1, kernel_size=3)
            add(f"relu{block}_{number}", "ReLU", name, name)
            bottom = name
        if (model, block) == ("vgg16_avg", 5):
            add("pool5", "Pooling", bottom, pool="AVE", kernel_size=VGG_MAP, stride=1)
            return "pool5"
        add(f"pool{block}", "Pooling", bottom, pool="MAX", kernel_size=2, stride=2)
        bottom = f"pool{block}"
    return full(add, 7, full(add, 6, bottom, width), width)


def caffenet(add, width, _):
    """Add CaffeNet's layers up to fc7; return that blob."""

    def conv(number, bottom, **param):
        add(f"conv{number}", "Convolution", bottom, **param)
        add(f"relu{number}", "ReLU", f"conv{number}", f"conv{number}")

    def pool(number, bottom):
        add(f"pool{number}", "Pooling", bottom, pool="MAX", kernel_size=3, stride=2)

    def norm(number):
        add(f"norm{number}", "LRN", f"pool{number}", local_size=5, alpha=0.0001, beta=0.75)

    conv(1, "data", num_output=96, kernel_size=11, stride=4)
    pool(1, "conv1")
    norm(1)
    conv(2, "norm1", num_output=256, pad=2, kernel_size=5, group=2)
    pool(2, "conv2")
    norm(2)
    conv(3, "norm2", num_output=384, pad=1, kernel_size=3)
    conv(4, "conv3", num_output=384, pad=1, kernel_size=3, group=2)
    conv(5, "conv4", num_output=256, pad=1, kernel_size=3, group=2)
    pool(5, "conv5")
    return full(add, 7, full(add, 6, "pool5", width), width)


def fields(param):
    return " ".join(f"{name}: {value}" for name, value in param.items())


def deploy(layers, syntax):
    """Return the deploy file's text of some layers in a syntax: "V0", "V1" or "today's"."""
    text = f'name: "release" input: "data" input_dim: 2 input_dim: 3 input_dim: {SIDE} '
    text += f"input_dim: {SIDE}\n"
    for name, kind, bottom, top, param in layers:
        ends = f'bottom: "{bottom}" top: "{top}"'
        if syntax == "V0":
            param = dict(param)
            if param.get("pad"):
                pad = f"pad_{name}"
                text += f'layers {{ layer {{ name: "{pad}" type: "padding" pad: {param.pop("pad")} '
                text += f'}} bottom: "{bottom}" top: "{pad}" }}\n'
                ends = f'bottom: "{pad}" top: "{top}"'
            inner = fields(param).replace("kernel_size", "kernelsize")
            text += f'layers {{ layer {{ name: "{name}" type: "{KIND[kind][1]}" {inner} }} '
            text += f"{ends} }}\n"
            continue
        inner = f"{PARAM[kind]}_param {{ {fields(param)} }}" if param else ""
        word, kind = ("layers", KIND[kind][0]) if syntax == "V1" else ("layer", f'"{kind}"')
        text += f'{word} {{ name: "{name}" type: {kind} {ends} {inner} }}\n'
    return text


def with_classifier(method, layers, net, classes, random):
    """Return (layers, their weights) of a released caffemodel, which has a classifier behind them.

    net: the caffe.Net of the deploy file, which ends at the sigmoid.
    """
    latent, sigmoid, classifier = HEADS[method]
    bits = net.params[latent][0].data.shape[0]
    arrays = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    arrays[classifier] = [
        random.normal(0, 1, shape).astype("float32") for shape in ((classes, bits), (classes,))
    ]
    last = (classifier, "InnerProduct", sigmoid, classifier, {"num_output": classes})
    return [*layers, last], arrays


def caffemodel(layers, weights, syntax, legacy_shapes=True):
    """Return the NetParameter that a Caffe of a syntax's time would have saved.

    weights: {layer name: [float32 array, ...]}. legacy_shapes: four axes, 1 x 1 x M x N.
    """
    from caffe.proto import caffe_pb2

    model = caffe_pb2.NetParameter(name="release", input=["data"])
    for name, kind, bottom, top, param in layers:
        if syntax == "V0":
            outer = model.layers.add(bottom=[bottom], top=[top])
            inner = outer.layer
            inner.name, inner.type = name, KIND[kind][1]
            for field, value in param.items():
                if field in ("num_output", "stride", "group", "pad"):
                    setattr(inner, field, value)
        elif syntax == "V1":
            kind = caffe_pb2.V1LayerParameter.LayerType.Value(KIND[kind][0])
            inner = model.layers.add(name=name, type=kind, bottom=[bottom], top=[top])
        else:
            inner = model.layer.add(name=name, type=kind, bottom=[bottom], top=[top])
        for array in weights.get(name, []):
            blob = inner.blobs.add()
            blob.data.extend(array.ravel())
            if legacy_shapes:
                shape = (1,) * (4 - array.ndim) + array.shape
                blob.num, blob.channels, blob.height, blob.width = shape
            else:
                blob.shape.dim.extend(array.shape)
    return model
