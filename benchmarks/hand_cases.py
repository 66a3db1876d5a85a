"""Twelve mappings that were counted by hand, typed from the mapping design, section 5; benchmarks and tests share them."""

from __future__ import annotations

from cosma_sched.mapping.layer import DIMS, Layer


def _layer(stride: int = 1, **dims: int) -> Layer:
    return Layer("layer", tuple(dims.get(dim, 1) for dim in DIMS), stride, stride)


def nest_text(l3: str, l1: str) -> str:
    """Return a mapping with K16X at L2, as in all hand cases."""
    return f"L3[WIO] {l3} - L2[WI] K16X - L1[O] {l1} - L0[W]"


# Source: mapping-and-fusion design, section 5; 16x16 PEs, 128 KiB, 32 KiB.
# id, L3, L1, layer, (w, i), (o, o-|O|), (A0, A1, A2, A3), cycles, pJ, i with halo reuse
_GH = {"P": 8, "Q": 8, "R": 3, "S": 3, "C": 16}
HAND_CASES = (
    ("A", "", "P16 C16X", _layer(P=16, C=16, K=16), (256, 256), (256, 0), (4352, 512, 1024, 768), 96, 86110.26, 256),
    ("B", "C4", "P16 C16X", _layer(P=16, C=64, K=16), (1024, 1024), (256, 0), (17408, 2048, 4096, 2304), 288, 267641.05, 1024),
    ("C", "K4 C4", "P16 C16X", _layer(P=16, C=64, K=64), (4096, 4096), (1024, 0), (69632, 8192, 16384, 9216), 1152, 1070564.19, 4096),
    ("D", "C4 K4", "P16 C16X", _layer(P=16, C=64, K=64), (4096, 1024), (4096, 3072), (69632, 11264, 13312, 12288), 1536, 1372954.54, 1024),
    ("E", "P4 K4", "P16 C16X", _layer(P=64, C=16, K=64), (4096, 1024), (4096, 0), (69632, 8192, 13312, 9216), 1152, 1059177.39, 1024),
    ("F", "K4 P4", "P16 C16X", _layer(P=64, C=16, K=64), (1024, 4096), (4096, 0), (66560, 8192, 10240, 9216), 1152, 1046293.11, 4096),
    ("G", "", "R3 S3 P8 Q8 C16X", _layer(K=16, **_GH), (2304, 1600), (1024, 0), (149760, 18432, 15424, 4928), 616, 745129.72, 1600),
    ("H", "P4", "R3 S3 P2 Q8 C16X", _layer(K=16, **_GH), (2304, 1600), (1024, 0), (156672, 18432, 22336, 4928), 698, 774119.35, 1600),
    (
        "I",
        "P4 K2",
        "R3 S3 P2 Q8 C16X",
        _layer(K=32, **_GH),
        (18432, 2560),
        (2048, 0),
        (313344, 36864, 57856, 23040),
        2880,
        2915507.04,
        1600,
    ),
    ("J", "P4 Q4", "R3 S3 P2 Q2 C16X", _layer(K=16, **_GH), (2304, 2560), (1024, 0), (184320, 18432, 50944, 5888), 1592, 989636.25, 2560),
    ("K", "P4", "R3 S3 P2 Q8 C16X", _layer(2, K=16, **_GH), (2304, 4624), (1024, 0), (156672, 18432, 25360, 8000), 994, 1092528.23, 4624),
    ("L", "P4 R3", "S3 P2 Q8 C16X", _layer(K=16, **_GH), (9216, 2080), (1024, 0), (156672, 18432, 29728, 12352), 1540, 1543918.83, 1600),
)
