"""The layer that shows where labels and reference do not agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.measure.comparison import MISSED, WRONG, Matching, error_map
from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.transforms import copy_transform, transform_of

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

# Told apart by the colour blind too, and neither is a colour of tissue.
MISSED_COLOUR, WRONG_COLOUR = '#ffb000', '#648fff'
_OPACITY = 0.7


class ErrorMap:
    """Errors of a whole stack, computed for the part that is asked for.

    It is array-like, and always up to date with the labels.

    Parameters
    ----------
    labels, reference : array-like
        (..., rows, columns) whole numbers.
    matching : Matching
    on_error : callable
        Called with a sentence where a part cannot be read, which then has no errors.

    Attributes
    ----------
    shape : tuple of int
    ndim : int
    dtype : numpy.dtype
        uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, labels: Any, reference: Any, matching: Matching, on_error: Any
    ) -> None:
        self.shape = tuple(labels.shape)
        self.ndim = len(self.shape)
        self._labels, self._reference = labels, reference
        self._matching, self._on_error = matching, on_error

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        part = np.asarray(self._labels[index])
        try:
            truth = np.asarray(self._reference[index])
        except KDSAMError as error:
            self._on_error(str(error))
            return np.zeros(part.shape, self.dtype)
        return error_map(part, truth, self._matching)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self[()].astype(dtype or self.dtype, copy=False)


class ErrorOverlay(QObject):
    """Show errors in a Labels layer that no tool of ours takes for labels.

    Attributes
    ----------
    layer : napari.layers.Labels or None
        None while nothing is shown.
    failed : Signal
        (sentence,) if the reference of a frame cannot be read.
    """

    failed = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.layer: Labels | None = None

    def show(self, labels: Labels, reference: Any, matching: Matching) -> None:
        """Show the errors of a Labels layer, in place of others."""
        import pandas as pd
        from napari.layers import Labels
        from napari.utils.colormaps import DirectLabelColormap

        self.remove()
        layer = Labels(
            ErrorMap(labels.data, reference, matching, self.failed.emit),
            name='KD SAM errors',
            multiscale=False,
            opacity=_OPACITY,
            colormap=DirectLabelColormap(
                color_dict={
                    None: 'transparent',
                    0: 'transparent',
                    MISSED: MISSED_COLOUR,
                    WRONG: WRONG_COLOUR,
                }
            ),
            features=pd.DataFrame(
                {'index': [MISSED, WRONG], 'error': ['missed', 'wrong']}
            ),
            metadata={HELPER_KEY: True},
            **transform_of(labels),
        )
        selected = set(self._viewer.layers.selection)
        self._viewer.add_layer(layer)
        # The layers that the user works on stay chosen.
        self._viewer.layers.selection = selected
        layer.editable = False
        self.layer = layer

    def refresh(self) -> None:
        """Show the errors as they are now, after the labels were painted on."""
        if self.layer is not None:
            self.layer.refresh()

    def follow(self, labels: Labels) -> None:
        """Lie on the labels again after they were moved."""
        if self.layer is not None:
            copy_transform(labels, self.layer)

    def remove(self) -> None:
        """Take the layer away, if the user has not done so."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def forget_deleted(self) -> None:
        """Let go of a layer that the user has taken away."""
        if self.layer is not None and self.layer not in self._viewer.layers:
            self.layer = None
