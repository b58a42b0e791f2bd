"""qzoo: a declarative zoo of quantized vision models in which every number can be rerun.

    import qzoo
    model = qzoo.create("resnet50_int8", pretrained="float")

The names are those of the table `__init__.pyi`. They are loaded when they are first used, so `import qzoo` does not
import torch.
"""

from lazy_loader import attach_stub

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
