"""A ResNet-8 for 8x8 grey images: the CIFAR ResNet of one block a stage, thinned to fit the smallest of datasets."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.models.architectures.registry import register
from qzoo.models.architectures.resnet_cifar import BasicBlock


class DigitsResNet(nn.Module):
    """A convolution, three basic blocks at 16, 32 and 64 channels, a classifier.

    Args:
        num_classes: outputs; 0 leaves the classifier out.
        in_chans: channels of the image.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = BasicBlock(16, 16, stride=1)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.layer3 = BasicBlock(32, 64, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `(N, in_chans, 8, 8)` to logits `(N, num_classes)`."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


register("resnet8_digits", DigitsResNet)
