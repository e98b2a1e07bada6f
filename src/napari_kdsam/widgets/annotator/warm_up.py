"""What is slow the first time, done before the main thread needs it."""

from __future__ import annotations

import numpy as np

from napari_kdsam.widgets.annotator.preview import PreviewLayer
from napari_kdsam.widgets.preferences import load_preferences
from napari_kdsam.widgets.shared.prompt_geometry import POSITIVE, polarity_table


def warm_up() -> None:
    """Read settings and let napari import and compile what the first layers need.

    It is meant for another thread, so that the window goes on meanwhile.
    """
    from napari.layers import Image, Points, Shapes

    load_preferences()
    Points(np.zeros((1, 2)), features=polarity_table([POSITIVE]))
    # napari compiles for the first one without shapes.
    Shapes(ndim=2, features=polarity_table([]))
    PreviewLayer(Image(np.zeros((2, 2), np.uint8)))
