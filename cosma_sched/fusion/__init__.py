"""The fusion planner: which layers run tile by tile together, in which tiles, with which mappings, and what no fusion can beat."""
