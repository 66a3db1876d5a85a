"""Memory planning: in which order operators run, where each tensor lies in the scratchpad, what is spilled to DRAM and retrieved."""
