"""The mapping planner: how each layer is tiled over the PE array and the memory levels, with a proven best answer."""
