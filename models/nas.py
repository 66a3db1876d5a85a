"""Networks of neural architecture search that no package offers at the paper's sizes, built from their published genotypes.

DARTS_V2 (Liu et al., arXiv 1806.09055) and AmoebaNet-D (Real et al., arXiv 1802.01548; the concatenation of normal cells as in the code
that the authors published, which differs from the printed figure).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Genotype = tuple[tuple[tuple[int, str], tuple[int, str]], ...]
"""For each new state the two (earlier state, operation) pairs whose results are added."""

DARTS_NORMAL: Genotype = (
    ((0, "sep3"), (1, "sep3")),
    ((0, "sep3"), (1, "sep3")),
    ((1, "sep3"), (0, "skip")),
    ((0, "skip"), (2, "dil3")),
)
DARTS_REDUCTION: Genotype = (
    ((0, "max3"), (1, "max3")),
    ((2, "skip"), (1, "max3")),
    ((0, "max3"), (2, "skip")),
    ((2, "skip"), (1, "max3")),
)
DARTS_CONCAT = (2, 3, 4, 5)

AMOEBA_NORMAL: Genotype = (
    ((1, "conv1"), (1, "max3")),
    ((1, "skip"), (0, "conv17")),
    ((0, "conv1"), (0, "conv17")),
    ((2, "max3"), (2, "skip")),
    ((1, "avg3"), (5, "conv1")),
)
AMOEBA_NORMAL_CONCAT = (0, 3, 4, 6)
AMOEBA_REDUCTION: Genotype = (
    ((0, "max2"), (0, "max3")),
    ((2, "skip"), (1, "conv3")),
    ((2, "conv17"), (2, "max3")),
    ((3, "skip"), (1, "max2")),
    ((2, "avg3"), (3, "conv1")),
)
AMOEBA_REDUCTION_CONCAT = (4, 5, 6)


def relu_conv_bn(channels_in: int, channels_out: int, kernel: int | tuple[int, int] = 1, stride: int | tuple[int, int] = 1) -> nn.Module:
    """Return ReLU, a convolution that keeps the size at stride 1, batch normalisation."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    conv = nn.Conv2d(channels_in, channels_out, (height, width), stride, (height // 2, width // 2), bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels_out))


class FactorizedReduce(nn.Module):
    """Halve the resolution with two 1x1 convolutions at stride 2, one of them on the image shifted by one pixel."""

    def __init__(self, channels_in: int, channels_out: int, pad_back: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if pad_back else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the halved image."""
        x = self.relu(x)
        shifted = self.pad(x[:, :, 1:, 1:])
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))


def depthwise_pointwise(channels: int, stride: int, dilation: int) -> list[nn.Module]:
    """Return ReLU, a depthwise 3x3 convolution, a 1x1 convolution, batch normalisation."""
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def bottleneck(channels: int, kernels: Sequence[tuple[int, int]], strides: Sequence[tuple[int, int]]) -> nn.Module:
    """Return a 1x1 convolution to a quarter of the channels, the given convolutions, and a 1x1 convolution back."""
    inner = channels // 4
    middle = [relu_conv_bn(inner, inner, kernel, stride) for kernel, stride in zip(kernels, strides, strict=True)]
    return nn.Sequential(relu_conv_bn(channels, inner), *middle, relu_conv_bn(inner, channels))


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "sep3": lambda c, s: nn.Sequential(*depthwise_pointwise(c, s, 1), *depthwise_pointwise(c, 1, 1)),
    "dil3": lambda c, s: nn.Sequential(*depthwise_pointwise(c, s, 2)),
    "conv1": lambda c, s: relu_conv_bn(c, c, 1, s),
    "conv3": lambda c, s: bottleneck(c, [(3, 3)], [(s, s)]),
    "conv17": lambda c, s: bottleneck(c, [(1, 7), (7, 1)], [(1, s), (s, 1)]),
    "max2": lambda _, s: nn.MaxPool2d(2, s),
    "max3": lambda _, s: nn.MaxPool2d(3, s, 1),
    "avg3": lambda _, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
}


class Cell(nn.Module):
    """A cell: two preprocessed inputs, new states as sums of two operations, a concatenation.

    Operations on the two inputs of a reduction cell have stride 2.
    """

    def __init__(self, inputs: Sequence[nn.Module], genotype: Genotype, concat: Sequence[int], channels: int, reduction: bool) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(inputs)
        self.genotype, self.concat = genotype, concat
        self.operations = nn.ModuleList()
        for pair in genotype:
            for state, name in pair:
                stride = 2 if reduction and state < 2 else 1
                self.operations.append(self._skip(channels, stride) if name == "skip" else OPERATIONS[name](channels, stride))

    @staticmethod
    def _skip(channels: int, stride: int) -> nn.Module:
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, pad_back=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the concatenation of the chosen states; states 0 and 1 are the preprocessed arguments."""
        states = [preprocess(x) for preprocess, x in zip(self.inputs, (first, second), strict=True)]
        operations = iter(self.operations)
        for (one, _), (other, _) in self.genotype:
            states.append(next(operations)(states[one]) + next(operations)(states[other]))
        return torch.cat([states[i] for i in self.concat], dim=1)


class Darts(nn.Module):
    """DARTS_V2 for images of 224x224: two stems, `cells` cells of which the ones at a third and two thirds reduce, pool, linear."""

    def __init__(self, channels: int = 48, cells: int = 14, classes: int = 1000) -> None:
        super().__init__()
        half = channels // 2
        self.stem0 = nn.Sequential(
            nn.Conv2d(3, half, 3, 2, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.stem1 = relu_conv_bn(channels, channels, 3, 2)
        self.cells = nn.ModuleList()
        before_last, last, reduced = channels, channels, True
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            first = FactorizedReduce(before_last, channels, pad_back=False) if reduced else relu_conv_bn(before_last, channels)
            genotype = DARTS_REDUCTION if reduction else DARTS_NORMAL
            self.cells.append(Cell([first, relu_conv_bn(last, channels)], genotype, DARTS_CONCAT, channels, reduction))
            before_last, last, reduced = last, channels * len(DARTS_CONCAT), reduction
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        before_last = self.stem0(x)
        last = self.stem1(before_last)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        return self.classifier(torch.flatten(self.pool(last), 1))


class AmoebaNetD(nn.Module):
    """AmoebaNet-D for images of 224x224: a stem, two reduction cells, three groups of normal cells with a reduction cell between groups."""

    def __init__(self, normal_cells: int = 18, filters: int = 256, classes: int = 1000) -> None:
        super().__init__()
        channels = filters // 4
        self.stem = nn.Sequential(nn.ReLU(), nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels))
        group = [False] * (normal_cells // 3)
        self.cells = nn.ModuleList()
        before_last, last, reduced = channels, channels, False
        for reduction in (True, True, *group, True, *group, True, *group):
            channels *= 2 if reduction else 1
            second: nn.Module = nn.Identity()
            if reduced:
                second = FactorizedReduce(before_last, channels, pad_back=True)
            elif before_last != channels:
                second = relu_conv_bn(before_last, channels)
            genotype = AMOEBA_REDUCTION if reduction else AMOEBA_NORMAL
            concat = AMOEBA_REDUCTION_CONCAT if reduction else AMOEBA_NORMAL_CONCAT
            self.cells.append(Cell([relu_conv_bn(last, channels), second], genotype, concat, channels, reduction))
            before_last, last, reduced = last, channels * len(concat), reduction
        self.pool = nn.AvgPool2d(7)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        before_last = last = self.stem(x)
        for cell in self.cells:
            before_last, last = last, cell(last, before_last)
        return self.classifier(torch.flatten(self.pool(last), 1))
