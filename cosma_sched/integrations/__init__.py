"""Plans inside other people's tools: each module here speaks one tool's interface and loads that tool only when asked to plan."""
