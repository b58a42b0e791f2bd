"""A module whose weights torch's own attention reads, and nobody calls."""

from __future__ import annotations

from torch import Tensor, nn


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of 8 channels in 2 heads, of a tensor with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]
