"""Which models of timm and torchvision the generic recipe quantizes: `make coverage`."""
