"""Compare labels with a reference."""
