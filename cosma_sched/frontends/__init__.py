"""Readers: from a name of the zoo, an ONNX file or a graph document to the graph."""

from cosma_sched.frontends.loading import load

__all__ = ["load"]
