"""First layers of timm's convolutional networks that keep the size of small images.

Networks made for 224 pixels halve the image once or twice before their first block, which leaves little of
32 pixels. As in the CIFAR networks of He et al. 2016, the stem becomes a 3 x 3 convolution of stride 1
without pooling; what follows is unchanged but sees four times the pixels, sixteen times in a ResNet.
"""

from __future__ import annotations

from torch import nn

# Names of a family's first convolution (or a sequence of some) and of the pooling after it.
STEMS: dict[str, tuple[str, str | None]] = {
    "conv1 + maxpool (ResNet)": ("conv1", "maxpool"),
    "features.conv0 + pool0 (DenseNet)": ("features.conv0", "features.pool0"),
    "conv_stem (EfficientNet, MobileNet)": ("conv_stem", None),
    "stem.conv (RegNet)": ("stem.conv", None),
}


def use_small_image_stem(network: nn.Module) -> bool:
    """Exchange the stem in place; False, and nothing changed, for a family that has no such stem.

    A 3 x 3 convolution keeps its weights and loses its stride, a larger one is replaced by a 3 x 3 one with
    weights drawn as timm draws them.
    """
    modules = dict(network.named_modules())
    for first, pooling in STEMS.values():
        stem = modules.get(first)
        if stem is None or (pooling is not None and pooling not in modules):
            continue
        convolutions = [layer for layer in stem.modules() if isinstance(layer, nn.Conv2d)]
        if not convolutions or max(convolutions[0].kernel_size) < 3:
            continue
        if stem is convolutions[0] and max(stem.kernel_size) > 3:
            _replace(network, first, _three_by_three(stem))
        else:
            for layer in convolutions:
                layer.stride = (1, 1)
        if pooling is not None:
            _replace(network, pooling, nn.Identity())
        return True
    return False


def _three_by_three(old: nn.Conv2d) -> nn.Conv2d:
    small = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    return small


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)
