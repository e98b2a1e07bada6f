"""What every layer speaks: prompts, geometry, intensity, errors. NumPy only."""
