"""The work of ``napari-kdsam batch`` and ``napari-kdsam embed``."""
