"""Random parts that work on tokens, each put between maps `(N, channels, H, W)` by `OnTokens`."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTIONS = (
    "self", "batch second", "need_weights", "cross", "masked", "causal", "kdim", "bias_kv",
    "sdpa", "by hand", "einsum", "relative bias",
)  # fmt: skip
HEADS = 2


class OnTokens(nn.Module):
    """Makes tokens `(N, H * W, channels)` of a map for a part, adds what it makes of them, and makes a map again."""

    def __init__(self, part: nn.Module, channels: int, *, norm_first: bool) -> None:
        super().__init__()
        self.norm, self.norm_first, self.part = nn.LayerNorm(channels), norm_first, part

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        if self.norm_first:
            tokens = tokens + self.part(self.norm(tokens))
        else:
            tokens = self.norm(tokens + self.part(tokens))
        return tokens.transpose(1, 2).reshape(x.shape)


class WithMultihead(nn.Module):
    """An `nn.MultiheadAttention`, called in one of the ways that it can be called."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        own = {"kdim": channels // 2, "vdim": channels} if kind == "kdim" else {}
        self.attention = nn.MultiheadAttention(
            channels, HEADS, batch_first=kind != "batch second", bias=kind != "cross", add_bias_kv=kind == "bias_kv",
            **own,  # type: ignore[arg-type]
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "batch second":
            y = x.transpose(0, 1)
            return self.attention(y, y, y, need_weights=False)[0].transpose(0, 1)  # type: ignore[no-any-return]
        if self.kind == "cross":
            return self.attention(x, x[:, :5].tanh(), x[:, :5])[0]  # type: ignore[no-any-return]
        if self.kind == "kdim":
            return self.attention(x, x[..., ::2], x, need_weights=False)[0]  # type: ignore[no-any-return]
        if self.kind == "need_weights":
            y, weights = self.attention(x, x, x)
            return y * (1 + weights.amax(-1, keepdim=True))  # type: ignore[no-any-return]
        return self.attention(x, x, x, need_weights=False, **self._mask(x))[0]  # type: ignore[no-any-return]

    def _mask(self, x: Tensor) -> dict[str, object]:
        if self.kind == "masked":
            mask = torch.zeros(x.shape[:2], dtype=torch.bool)
            mask[:, -1] = True
            return {"key_padding_mask": mask}
        if self.kind == "causal":
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            return {"attn_mask": mask, "is_causal": True}
        return {}

    def extra_repr(self) -> str:
        return self.kind


class ByHand(nn.Module):
    """Attention as people write it: projections, and the two products as functions."""

    def __init__(self, kind: str, channels: int, size: int) -> None:
        super().__init__()
        self.kind, self.qkv, self.proj = kind, nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        if kind == "relative bias":
            self.bias = nn.Parameter(torch.randn(HEADS, size, size) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(self._attended(q, k, v).transpose(1, 2).reshape(n, length, channels))  # type: ignore[no-any-return]

    def _attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.kind == "sdpa":
            return F.scaled_dot_product_attention(q, k, v)
        scale = q.shape[-1] ** -0.5
        if self.kind == "einsum":
            weights = torch.einsum("bhid,bhjd->bhij", q, k).mul(scale).softmax(-1)
            return torch.einsum("bhij,bhjd->bhid", weights, v)
        weights = (q * scale) @ k.transpose(-2, -1)
        if self.kind == "relative bias":
            weights = weights + self.bias
        return F.softmax(weights, dim=-1) @ v

    def extra_repr(self) -> str:
        return self.kind


def attention(chance: Random, channels: int, size: int) -> nn.Module:
    """Returns an attention of any kind, on maps of `size` places."""
    kind = chance.choice(ATTENTIONS)
    by_hand = kind in ("sdpa", "by hand", "einsum", "relative bias")
    part = ByHand(kind, channels, size) if by_hand else WithMultihead(kind, channels)
    return OnTokens(part, channels, norm_first=chance.random() < 0.7)


def feed_forward(chance: Random, channels: int, size: int) -> nn.Module:
    """Returns the other half of a transformer's block."""
    act = chance.choice([nn.GELU, nn.ReLU, nn.SiLU])()
    part = nn.Sequential(nn.Linear(channels, 2 * channels), act, nn.Linear(2 * channels, channels))
    return OnTokens(part, channels, norm_first=chance.random() < 0.7)


def encoder(chance: Random, channels: int, size: int) -> nn.Module:
    """Returns torch's own transformer block, alone or twice."""
    first = chance.random() < 0.5
    layer = nn.TransformerEncoderLayer(
        channels, HEADS, 2 * channels, chance.choice([0.0, 0.1]), chance.choice(["relu", "gelu"]), batch_first=True,
        norm_first=first,
    )  # fmt: skip
    twice = chance.random() < 0.25
    part = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not first) if twice else layer
    return OnTokens(part, channels, norm_first=True)


class Recurrent(nn.Module):
    """An LSTM or GRU over the tokens, of one direction or two."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        two = kind.endswith("both ways")
        made = nn.GRU if kind.startswith("GRU") else nn.LSTM
        self.rnn = made(channels, channels // 2 if two else channels, batch_first=True, bidirectional=two)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]  # type: ignore[no-any-return]


class Cells(nn.Module):
    """A cell that is called for each of a few tokens."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(channels, channels) if kind == "LSTMCell" else nn.GRUCell(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        state = self.cell(x[:, 0])
        for place in range(1, 3):
            state = self.cell(x[:, place], state)
        return (state[0] if isinstance(state, tuple) else state).unsqueeze(1)  # type: ignore[no-any-return]


def recurrent(chance: Random, channels: int, size: int) -> nn.Module:
    """Returns a recurrent part of any kind."""
    kind = chance.choice(["LSTM", "GRU", "LSTM both ways", "GRU both ways", "LSTMCell", "GRUCell"])
    part = Cells(kind, channels) if kind.endswith("Cell") else Recurrent(kind, channels)
    return OnTokens(part, channels, norm_first=chance.random() < 0.5)
