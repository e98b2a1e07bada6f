"""napari and Qt; nothing else in the package imports them."""
