"""A small convolutional network for images of 8 to 32 pixels."""

from __future__ import annotations

from torch import Tensor, nn

DROPOUT = 0.2  # of whole channels, as in the networks of the published open-set tables
GRID = 4  # cells per side that the last layer looks at


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class SmallConvnet(nn.Module):
    """Four 3 x 3 convolutions with batch norm, channel dropout, and one layer over a 4 x 4 grid.

    The grid keeps where a stroke is, which an average over the whole image would lose.
    Maps (B, channels, H, W) float with H, W >= 8 to (B, 128) features, none negative.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(channels, 32),
            *_block(32, 32),
            nn.MaxPool2d(2),
            nn.Dropout2d(DROPOUT),
            *_block(32, 64),
            *_block(64, 64),
            nn.Dropout2d(DROPOUT),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Linear(64 * GRID * GRID, 128, bias=False),
            nn.BatchNorm1d(128),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 128) features."""
        features: Tensor = self.layers(images)
        return features
