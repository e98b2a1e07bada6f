"""Sizes that every SAM-compatible model shares."""

# Side of the square that prompt coordinates are scaled to, in pixels.
PROMPT_SIDE = 1024
# Side of the square of mask logits.
LOGITS_SIZE = 256
EMBEDDING_CHANNELS = 256
# Rows and columns of an image embedding.
EMBEDDING_SIZE = 64
EMBEDDING_SHAPE = (EMBEDDING_CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE)
# Sides that KD SAM's encoder takes.
INPUT_SIZES = (512, 1024)
