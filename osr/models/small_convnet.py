"""A small convolutional network for images of 8 to 32 pixels."""

from __future__ import annotations

from torch import Tensor, nn


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class SmallConvnet(nn.Module):
    """Six 3 x 3 convolutions with batch norm in three widths (32, 64, 128), two halvings, average pool.

    Maps (B, channels, H, W) float with H, W >= 4 to (B, 128) features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(channels, 32),
            *_block(32, 32),
            nn.MaxPool2d(2),
            *_block(32, 64),
            *_block(64, 64),
            nn.MaxPool2d(2),
            *_block(64, 128),
            *_block(128, 128),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 128) features."""
        features: Tensor = self.layers(images)
        return features
