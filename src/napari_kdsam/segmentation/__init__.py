"""Frames and prompts to labels: the one engine of viewer, `segment` and `batch`. No Qt."""
