"""Networks as people write them: a class of one's own for each way that quantization has to follow.

Each takes images `(N, 3, 32, 32)`, unless it says otherwise, and gives logits `(N, 10)`, alone or among other things.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, CLASSES = 32, 10


class Tokens(nn.Module):
    """What all of them share: tokens `(N, 16, width)` of an image, and a classifier of their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDTH, 8, stride=8), nn.Linear(WIDTH, CLASSES)

    def tokens(self, x: Tensor) -> Tensor:
        """Returns the tokens of images."""
        return self.patches(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]

    def mixed(self, x: Tensor) -> Tensor:
        """Returns what a style makes of the tokens."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        """Returns the logits."""
        return self.head(self.mixed(self.tokens(x)).mean(1))


class DictOutput(Tokens):
    """Gives a dict, as segmentation models do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the logits and the tokens by name."""
        tokens = self.tokens(x)
        return {"logits": self.head(tokens.mean(1)), "tokens": tokens}


class TwoInputs(Tokens):
    """Takes facts beside the image, `(N, 4)`."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = nn.Linear(4, WIDTH)

    def forward(self, x: Tensor, facts: Tensor) -> Tensor:
        """Returns the logits."""
        return self.head(self.tokens(x).mean(1) + self.facts(facts))  # type: ignore[no-any-return]


class ListOfImages(Tokens):
    """Takes a list of images, as detectors do, and the layers stand in a plain list made when they are needed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, images: list[Tensor]) -> Tensor:
        """Returns the logits."""
        tokens = self.tokens(torch.stack(list(images)))
        for layer in [one for one in self.layers if isinstance(one, nn.Linear)]:
            tokens = F.gelu(layer(tokens))
        return self.head(tokens.mean(1))  # type: ignore[no-any-return]


class SharedModule(Tokens):
    """Calls a layer twice, and has it at two paths."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.again = self.first

    def mixed(self, x: Tensor) -> Tensor:
        """Calls it three times."""
        return self.again(F.relu(self.first(F.relu(self.first(x)))))  # type: ignore[no-any-return]


class WithParameter(Tokens):
    """Multiplies by a parameter of its own."""

    def __init__(self, product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH) * WIDTH**-0.5)
        self.bias, self.product = nn.Parameter(torch.zeros(WIDTH)), product

    def mixed(self, x: Tensor) -> Tensor:
        """Multiplies."""
        return F.relu(self.product(x, self.weight, self.bias))


class FunctionalConvolution(Tokens):
    """Calls F.conv2d on a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3) * (9 * WIDTH) ** -0.5)

    def mixed(self, x: Tensor) -> Tensor:
        """Convolves the map of the tokens."""
        maps = x.transpose(1, 2).unflatten(2, (4, 4))
        return F.conv2d(maps, self.kernel, padding=1).flatten(2).transpose(1, 2)


class Conv1D(nn.Module):
    """The linear layer of GPT-2, whose weight is transposed and added to by `addmm`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(WIDTH, WIDTH) * 0.1), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies all tokens at once."""
        return torch.addmm(self.bias, x.reshape(-1, x.size(-1)), self.weight).view(x.shape)


class Attention(Tokens):
    """Calls `nn.MultiheadAttention`, with projections of one weight or of three."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        keys = {"kdim": WIDTH // 2, "vdim": WIDTH // 2} if apart else {}
        self.attention, self.apart = nn.MultiheadAttention(WIDTH, 4, batch_first=True, **keys), apart

    def mixed(self, x: Tensor) -> Tensor:
        """Attends."""
        other = x[..., : WIDTH // 2] if self.apart else x
        return x + self.attention(x, other, other, need_weights=False)[0]  # type: ignore[no-any-return]


class Mixed(Tokens):
    """Passes the tokens through a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.mixer = module

    def mixed(self, x: Tensor) -> Tensor:
        """Returns the first of what the module gives."""
        y = self.mixer(x)
        return y[0] if isinstance(y, tuple) else y  # type: ignore[no-any-return]


class TiedWeight(Tokens):
    """Reads one weight in two layers, and transposed, as an autoencoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.same = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.same.weight = self.down.weight

    def mixed(self, x: Tensor) -> Tensor:
        """Multiplies by it three times."""
        return F.linear(F.relu(self.same(F.relu(self.down(x)))), self.down.weight.t())


class CosineClassifier(Tokens):
    """Computes the weight that it classifies with."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(CLASSES, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Returns scaled cosines."""
        features = F.normalize(self.tokens(x).mean(1), dim=-1)
        return 16 * F.linear(features, F.normalize(self.prototypes, dim=-1))


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


STYLES: dict[str, Callable[[], nn.Module]] = {
    "dict output": DictOutput,
    "two inputs": TwoInputs,
    "a list of images": ListOfImages,
    "shared module": SharedModule,
    "F.linear on a parameter": lambda: WithParameter(F.linear),
    "x @ w": lambda: WithParameter(lambda x, w, b: x @ w + b),
    "einsum": lambda: WithParameter(lambda x, w, b: torch.einsum("nti,oi->nto", x, w) + b),
    "F.conv2d on a parameter": FunctionalConvolution,
    "addmm (Conv1D of transformers)": lambda: Mixed(Conv1D()),
    "MultiheadAttention, packed": lambda: Attention(apart=False),
    "MultiheadAttention, kdim and vdim": lambda: Attention(apart=True),
    "TransformerEncoder": lambda: Mixed(_encoder()),
    "LSTM": lambda: Mixed(nn.LSTM(WIDTH, WIDTH, batch_first=True)),
    "GRU": lambda: Mixed(nn.GRU(WIDTH, WIDTH, batch_first=True)),
    "weight tying": TiedWeight,
    "cosine classifier": CosineClassifier,
}


def style(name: str) -> tuple[nn.Module, Any]:
    """Returns the network of a style in evaluation mode, random weights of one seed, and arguments that it takes.

    Example:
        >>> network, arguments = style("two inputs")
        >>> network(*arguments).shape
        torch.Size([2, 10])
    """
    torch.manual_seed(0)
    network = STYLES[name]().eval()
    images = torch.randn(2, 3, 32, 32)
    if name == "two inputs":
        return network, (images, torch.randn(2, 4))
    return network, ([*images],) if name == "a list of images" else (images,)
