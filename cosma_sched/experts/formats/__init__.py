"""Files in and out: one module per reader and per writer, and `reread`, which checks every output and shares no code with the writers."""
