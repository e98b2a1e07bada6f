"""Images with masks: where they are kept, how they are split, how they are fed."""
