"""Float models that neither timm nor torchvision has. Importing the package registers them."""

from qzoo.models.architectures import resnet_cifar, resnet_digits
from qzoo.models.architectures.registry import create, names

__all__ = ["create", "names", "resnet_cifar", "resnet_digits"]
