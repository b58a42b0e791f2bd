"""From a base and a variant to a quantized model. The only place that knows timm and torchvision."""
