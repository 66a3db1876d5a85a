"""Networks that no package offers in the form that the mapping planner is measured on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Fsrcnn(nn.Module):
    """FSRCNN(56, 12, 4) for super-resolution by four (Dong et al., arXiv 1608.00367)."""

    def __init__(self, features: int = 56, shrunk: int = 12, maps: int = 4, scale: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, features, 5, padding=2), nn.PReLU(features)]
        layers += [nn.Conv2d(features, shrunk, 1), nn.PReLU(shrunk)]
        for _ in range(maps):
            layers += [nn.Conv2d(shrunk, shrunk, 3, padding=1), nn.PReLU(shrunk)]
        layers += [nn.Conv2d(shrunk, features, 1), nn.PReLU(features)]
        layers.append(nn.ConvTranspose2d(features, 1, 9, stride=scale, padding=4, output_padding=scale - 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged luminance."""
        return self.layers(x)


class UNet(nn.Module):
    """U-Net as published: unpadded convolutions, cropped skips, 572x572 in, 388x388 out (Ronneberger et al., arXiv 1505.04597)."""

    def __init__(self, channels: int = 1, classes: int = 2, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList([_two_convolutions(before, after) for before, after in zip([channels, *widths], widths, strict=False)])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList([nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in pairs])
        self.merge = nn.ModuleList([_two_convolutions(before, after) for before, after in pairs])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the classes."""
        skips = []
        for level in self.down[:-1]:
            x = level(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)
            skip = skips.pop()
            cut = (skip.shape[-1] - x.shape[-1]) // 2
            x = merge(torch.cat([skip[..., cut : cut + x.shape[-2], cut : cut + x.shape[-1]], x], dim=1))
        return self.head(x)


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3), nn.ReLU(), nn.Conv2d(after, after, 3), nn.ReLU())


class GptLayer(nn.Module):
    """One layer of GPT-3 6.7B: width 4096, 32 heads of 128, feed-forward 16384 (Brown et al., arXiv 2005.14165).

    With keys and values of earlier tokens it decodes; without it reads a whole prompt.
    """

    def __init__(self, width: int = 4096, heads: int = 32, hidden: int = 16384) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, past_key: Tensor | None = None, past_value: Tensor | None = None) -> Tensor:
        """Return the layer's output for the new tokens."""
        normed = self.norm1(x)
        query, key, value = (self._split(linear(normed)) for linear in (self.query, self.key, self.value))
        if past_key is not None and past_value is not None:
            key, value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=past_key is None)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))

    def _split(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        return x.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
