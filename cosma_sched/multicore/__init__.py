"""Layer-fused schedules on several cores: which core runs each computation node, when, and what is resident where."""
