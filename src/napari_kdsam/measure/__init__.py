"""Numbers about labels: measurements, and scores against a reference."""
