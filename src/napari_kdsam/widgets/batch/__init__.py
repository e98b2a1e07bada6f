"""Batch segmentation in the viewer."""
