"""Sizes that every SAM-compatible model shares."""

# Side of the square that prompt coordinates are scaled to, in pixels.
PROMPT_FRAME = 1024
