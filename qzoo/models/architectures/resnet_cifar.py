"""The CIFAR ResNets: three stages of 3x3 basic blocks at 16, 32 and 64 channels, option-A shortcuts.

Source: He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2.
A shortcut that changes shape has no parameters: it takes every second pixel and pads the channels with zeros.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.models.architectures.registry import register


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padded = channels - in_channels

    def shortcut(self, x: Tensor) -> Tensor:
        """Returns the identity: subsampled, and padded with as many zero channels before as after."""
        if self.padded == 0 and self.stride == 1:
            return x
        before = self.padded // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.padded - before))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, H, W)` to `(N, channels, H / stride, W / stride)`."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return F.relu(out)


class CifarResNet(nn.Module):
    """A ResNet for 32x32 images.

    Args:
        depth: `6n + 2` layers, n blocks a stage.
        num_classes: outputs; 0 leaves the classifier out.
        in_chans: channels of the image.

    Raises:
        ValueError: no n fits the depth.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"a CIFAR ResNet has 6n + 2 layers (8, 14, 20 ...), not {depth}")
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes) if num_classes else nn.Identity()
        _initialize(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images `(N, in_chans, 32, 32)` to features `(N, 64, 8, 8)`."""
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `(N, in_chans, 32, 32)` to logits `(N, num_classes)`."""
        return self.linear(self.avgpool(self.forward_features(x)).flatten(1))  # type: ignore[no-any-return]


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def _initialize(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


for _depth in (20, 32, 44, 56, 110):
    register(f"resnet{_depth}_cifar10", partial(CifarResNet, _depth))
