"""Numbers about masks: how well they agree with a reference."""
