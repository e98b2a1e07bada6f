"""The student image encoder: a ResNet-50 trunk and a feature-pyramid neck."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from napari_kdsam.core.sizes import EMBEDDING_CHANNELS, EMBEDDING_SIZE, INPUT_SIZES
from napari_kdsam.model.torchvision_guard import import_segment_anything


class Bottleneck(nn.Module):
    """ResNet bottleneck with the stride on the first 1x1 convolution ("v1").

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    width : int
        Channels inside the block; the output has four times as many.
    stride : int
        Stride of the block.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.relu(self.bn2(self.conv2(x)), inplace=True)
        return functional.relu(self.bn3(self.conv3(x)) + shortcut, inplace=True)


class ResNet50Trunk(nn.Module):
    """ResNet-50 without its classifier, with torchvision's parameter names.

    Returns the feature maps of the last three stages: strides 8, 16 and 32 with
    512, 1024 and 2048 channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(64, 64, 3, 1)
        self.layer2 = self._stage(256, 128, 4, 2)
        self.layer3 = self._stage(512, 256, 6, 2)
        self.layer4 = self._stage(1024, 512, 3, 2)

    @staticmethod
    def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(in_channels, width, stride)
        rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
        return nn.Sequential(first, *rest)

    def forward(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x)), inplace=True))
        stride8 = self.layer2(self.layer1(x))
        stride16 = self.layer3(stride8)
        return stride8, stride16, self.layer4(stride16)


class PyramidNeck(nn.Module):
    """Top-down sum of the trunk's maps, smoothed into SAM's image embedding.

    Parameters
    ----------
    stride : int
        8 (for a 512 input) or 16 (for a 1024 input): the output's stride.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        layer_norm = import_segment_anything().modeling.common.LayerNorm2d
        channels = EMBEDDING_CHANNELS
        self.stride = stride
        self.lateral3 = nn.Conv2d(512, channels, 1)
        self.lateral4 = nn.Conv2d(1024, channels, 1)
        self.lateral5 = nn.Conv2d(2048, channels, 1)
        self.smooth = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer_norm(channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer_norm(channels),
        )

    def forward(
        self, stride8: torch.Tensor, stride16: torch.Tensor, stride32: torch.Tensor
    ) -> torch.Tensor:
        x = self.lateral4(stride16) + _double(self.lateral5(stride32))
        if self.stride == 8:
            x = self.lateral3(stride8) + _double(x)
        return self.smooth(x)


def _double(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode='nearest')


class StudentEncoder(nn.Module):
    """KD SAM's student image encoder (arXiv 2501.16740): ResNet-50 plus neck.

    Parameters
    ----------
    input_size : int
        Side of the square input in pixels, 512 or 1024.

    Raises
    ------
    ValueError
        If `input_size` is neither 512 nor 1024.
    """

    def __init__(self, input_size: int = 512) -> None:
        super().__init__()
        if input_size not in INPUT_SIZES:
            raise ValueError(f'input_size must be 512 or 1024, not {input_size}')
        self.trunk = ResNet50Trunk()
        self.neck = PyramidNeck(stride=input_size // EMBEDDING_SIZE)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed normalised pixels.

        Parameters
        ----------
        pixels : torch.Tensor
            (B, 3, S, S) float, RGB normalised with SAM's mean and std, S the
            input size, zero padded at the bottom or right.

        Returns
        -------
        torch.Tensor
            (B, 256, 64, 64) float image embedding in SAM's embedding space.
        """
        return self.neck(*self.trunk(pixels))
