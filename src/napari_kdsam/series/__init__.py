"""A folder of images that is worked through one after the other; no Qt."""
