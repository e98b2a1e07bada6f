"""Measure labels: a table that follows the layer."""
