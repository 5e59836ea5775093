"""classifier32, the network of the published open-set tables (Neal et al. 2018, ARPL, Vaze et al. 2022)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

DROPOUT = 0.2  # of whole channels, before each group, also of the image's own
SLOPE = 0.2  # of the leaky ReLU
WIDTHS = ((64, 64, 128), (128, 128, 128), (128, 128, 128))  # the last block of a group halves the image


class Classifier32(nn.Module):
    """Nine 3 x 3 convolutions in three groups, each with batch norm and leaky ReLU; then the average.

    Layer for layer the network of github.com/sgvaze/osr_closed_set_all_you_need (models/classifier32.py)
    and of ARPL, whose linear head has no bias (`model.head.bias: false`); weights start as there, normal
    with standard deviation 0.05, norms around 1 with 0.02. Features come from a leaky ReLU, so they can be
    negative: detectors that need a ReLU refuse them.

    As there, grey images are taken as three equal channels: dropout of whole channels would otherwise black
    out every fifth image.

    Maps (B, channels, H, W) float, made for 32 x 32, to (B, 128) features.

    Args:
        channels: of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.channels = 3 if channels == 1 else channels
        inputs = self.channels
        for group in WIDTHS:
            layers.append(nn.Dropout2d(DROPOUT))
            for position, (inner, outer) in enumerate(pairwise((inputs, *group))):
                stride = 2 if position == len(group) - 1 else 1
                layers += [
                    nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False),
                    nn.BatchNorm2d(outer),
                    nn.LeakyReLU(SLOPE),
                ]
            inputs = group[-1]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.05)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 128) features."""
        features: Tensor = self.layers(images.expand(-1, self.channels, -1, -1))
        return features
