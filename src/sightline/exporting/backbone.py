"""Pictures to features: preparation, ResNet and pyramid as nodes of a graph. Constant norms are folded into the weights.

B: pictures. C: channels. Norms of training are constant in what is exported, too.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import ConfigError
from sightline.exporting.graph import Graph, Value
from sightline.model.detector import Detector
from sightline.model.fpn import FPN, ConvolvedTop
from sightline.model.norms import EPSILON, Conv, FrozenBatchNorm2d
from sightline.model.resnet import BasicBlock, BottleneckBlock, ResNet

Array = NDArray[np.float32]
Features = dict[str, Value]

FROM_RGB = {"RGB": [0, 1, 2], "BGR": [2, 1, 0]}


def numbers(tensor: Tensor) -> Array:
    """The tensor as float32 on the CPU."""
    return tensor.detach().float().cpu().numpy()


def affine(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """(scale, shift), each (C,) float64, of a norm whose statistics are constant; None for any other."""
    if isinstance(norm, FrozenBatchNorm2d):
        scale = norm.weight.double() * (norm.running_var.double() + EPSILON).rsqrt()
        return scale, norm.bias.double() - norm.running_mean.double() * scale
    if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
        weight = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
        bias = torch.zeros_like(norm.running_var) if norm.bias is None else norm.bias
        scale = weight.detach().double() * (norm.running_var.double() + norm.eps).rsqrt()
        return scale, bias.detach().double() - norm.running_mean.double() * scale
    return None


def folded(layer: nn.Conv2d) -> tuple[Tensor, Tensor | None, nn.Module | None]:
    """(weight, bias, norm that is left) of a convolution with its constant norm multiplied in, in float64."""
    weight = layer.weight.detach().double()
    bias = None if layer.bias is None else layer.bias.detach().double()
    norm = layer.norm if isinstance(layer, Conv) else None
    constant = None if norm is None else affine(norm)
    if constant is None:
        return weight, bias, norm
    scale, shift = constant
    return weight * scale[:, None, None, None], shift if bias is None else bias * scale + shift, None


def convolved(graph: Graph, x: Value, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> Value:
    """The bare convolution with other numbers than its layer's."""
    pad_y, pad_x = layer.padding if isinstance(layer.padding, tuple) else (0, 0)
    given = [numbers(weight)] if bias is None else [numbers(weight), numbers(bias)]
    return graph(
        "Conv", x, *given,
        kernel_shape=list(layer.kernel_size), strides=list(layer.stride), dilations=list(layer.dilation), group=layer.groups,
        pads=[pad_y, pad_x, pad_y, pad_x],
    )  # fmt: skip


def applied(graph: Graph, module: nn.Module, x: Value) -> Value:
    """What a layer, or several in order, makes of x."""
    if isinstance(module, nn.Conv2d):
        weight, bias, norm = folded(module)
        x = convolved(graph, x, module, weight, bias)
        x = x if norm is None else applied(graph, norm, x)
        return graph("Relu", x) if isinstance(module, Conv) and module.relu else x
    if isinstance(module, nn.Sequential):
        for child in module:
            x = applied(graph, child, x)
        return x
    if isinstance(module, BasicBlock | BottleneckBlock):
        return block(graph, module, x)
    if isinstance(module, nn.ReLU):
        return graph("Relu", x)
    if isinstance(module, nn.GroupNorm):
        return group_norm(graph, module, x)
    constant = affine(module)
    if constant is None:
        raise ConfigError("export", f"has no graph for a {type(module).__name__}", "Export another model.")
    scale, shift = (numbers(number)[:, None, None] for number in constant)
    return graph("Add", graph("Mul", x, scale), shift)


def block(graph: Graph, module: BasicBlock | BottleneckBlock, x: Value) -> Value:
    """A residual block."""
    convs = [module.conv1, module.conv2, *([module.conv3] if isinstance(module, BottleneckBlock) else [])]
    out = x
    for conv in convs:
        out = applied(graph, conv, out)
    beside = x if module.shortcut is None else applied(graph, module.shortcut, x)
    return graph("Relu", graph("Add", out, beside))


def group_norm(graph: Graph, norm: nn.GroupNorm, x: Value) -> Value:
    """Normalised group by group: an instance norm of groups as channels, which every opset has."""
    rows = graph.reshaped(x, graph.side(x, 0), norm.num_groups, -1)
    ones, zeros = np.ones(norm.num_groups, np.float32), np.zeros(norm.num_groups, np.float32)
    normal = graph("Reshape", graph("InstanceNormalization", rows, ones, zeros, epsilon=norm.eps), graph("Shape", x))
    scaled = graph("Mul", normal, numbers(norm.weight)[:, None, None])
    return graph("Add", scaled, numbers(norm.bias)[:, None, None])


def prepared(graph: Graph, pictures: Value, sizes: Value, detector: Detector, color_order: str) -> Value:
    """(B, 3, H, W) float32 with zeros beyond each picture, in RGB and before division: `first_weight` does the rest."""
    mean = numbers(detector.pixel_mean).reshape(3)[FROM_RGB[color_order]].reshape(3, 1, 1)
    planes = graph("Transpose", graph.cast(pictures, "FLOAT"), perm=[0, 3, 1, 2])
    inside = []
    for axis, column in ((1, 0), (2, 1)):
        cells = graph("Range", 0, graph.side(pictures, axis), 1)
        inside.append(graph("Less", cells, graph("Gather", sizes, [column], axis=1)))  # (B, H), (B, W)
    rows, columns = graph("Unsqueeze", inside[0], [1, 3]), graph("Unsqueeze", inside[1], [1, 2])
    return graph("Where", graph("And", rows, columns), graph("Sub", planes, mean), 0.0)


def first_weight(weight: Tensor, detector: Detector, color_order: str) -> Tensor:
    """The stem's (D, 3, h, w) for pictures in RGB that are not divided by the deviation."""
    divided = weight / detector.pixel_std.double().cpu().view(1, 3, 1, 1)
    return divided[:, FROM_RGB[color_order]]


def stem(graph: Graph, network: ResNet, detector: Detector, x: Value, color_order: str) -> Value:
    conv = network.stem.conv1
    weight, bias, norm = folded(conv)
    x = convolved(graph, x, conv, first_weight(weight.cpu(), detector, color_order), bias)
    x = graph("Relu", x if norm is None else applied(graph, norm, x))
    return graph("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


def resnet_features(graph: Graph, network: ResNet, detector: Detector, x: Value, color_order: str) -> Features:
    with graph.within("stem"):
        x = stem(graph, network, detector, x, color_order)
    features = {"stem": x} if "stem" in network.out_features else {}
    for name in network.stage_names:
        with graph.within(name):
            x = applied(graph, network.get_submodule(name), x)
        if name in network.out_features:
            features[name] = x
    return features


def pyramid_features(graph: Graph, pyramid: FPN, below: Features) -> Features:
    coarser: Value | None = None
    features: Features = {}
    for name, level in reversed(list(zip(pyramid.in_features, pyramid.levels, strict=True))):
        merged = applied(graph, pyramid.get_submodule(f"fpn_lateral{level}"), below[name])
        if coarser is not None:
            merged = graph("Add", merged, doubled(graph, coarser))
            merged = graph("Mul", merged, 0.5) if pyramid.fuse == "avg" else merged
        coarser = merged
        features[f"p{level}"] = applied(graph, pyramid.get_submodule(f"fpn_output{level}"), merged)
    features = dict(reversed(features.items()))
    top = pyramid.levels[-1]
    if not isinstance(pyramid.top_block, ConvolvedTop):
        pooled = graph("MaxPool", features[f"p{top}"], kernel_shape=[1, 1], strides=[2, 2])
        return features | {f"p{top + 1}": pooled}
    finer = applied(graph, pyramid.top_block.p6, below[pyramid.in_features[-1]])
    coarsest = applied(graph, pyramid.top_block.p7, graph("Relu", finer))
    return features | {f"p{top + 1}": finer, f"p{top + 2}": coarsest}


def doubled(graph: Graph, x: Value) -> Value:
    """Twice the cells along both sides, each as its nearest."""
    scales = np.array([1, 1, 2, 2], np.float32)
    return graph("Resize", x, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def features_of(graph: Graph, pictures: Value, sizes: Value, detector: Detector, color_order: str) -> Features:
    """Features by name. pictures: uint8 (B, H, W, 3) RGB; sizes: int64 (B, 2) of the pictures inside."""
    with graph.within("backbone"):
        x = prepared(graph, pictures, sizes, detector, color_order)
        backbone = detector.backbone
        network = backbone.bottom_up if isinstance(backbone, FPN) else backbone
        assert isinstance(network, ResNet)
        below = resnet_features(graph, network, detector, x, color_order)
        if not isinstance(backbone, FPN):
            return below
        with graph.within("fpn"):
            return pyramid_features(graph, backbone, below)
