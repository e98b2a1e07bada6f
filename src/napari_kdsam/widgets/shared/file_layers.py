"""The layer that shows an image file."""

from __future__ import annotations

import os
from typing import Any

LayerData = tuple[Any, dict[str, Any], str]
_NO_UNIT = 'pixel'
_UNIT = 'millimeter'


def layer_of(image: Any, path: str | os.PathLike[str]) -> LayerData:
    """Describe the layer of an image file that is open.

    Parameters
    ----------
    image : ImageFile
        Closed here, unless it is a stack, whose frames are read when they are looked
        at.
    path : path-like
        Where it is.

    Returns
    -------
    tuple
        Data, attributes and kind of the layer; see `napari_io.read_layers`.
    """
    from napari_kdsam.io.formats import stem_of

    axes = image.frame_axes
    if axes:
        data = _lazy_frames(image)
    else:
        data = image.frame()
        image.close()
    spacings = [*(axis.spacing for axis in axes), *(image.spacing or (None, None))]
    attributes: dict[str, Any] = {
        'name': stem_of(image.name),
        'scale': tuple(1.0 if size is None else size for size in spacings),
        'units': tuple(_NO_UNIT if size is None else _UNIT for size in spacings),
        'axis_labels': (*(axis.name for axis in axes), 'y', 'x'),
        'metadata': {'source': str(path)},
    }
    if image.holds_labels and image.dtype.kind in 'ui':
        return data, attributes, 'labels'
    return data, {**attributes, 'rgb': len(image.frame_shape) == 3}, 'image'


def _lazy_frames(image: Any) -> Any:
    """A Dask array of the frames, shape (..., rows, columns[, channels])."""
    # napari itself depends on Dask.
    import uuid

    import dask.array
    import numpy as np

    from napari_kdsam.core.stack_index import flat_index

    leading = tuple(axis.size for axis in image.frame_axes)

    def load(block_info: Any = None) -> Any:
        place = block_info[None]['chunk-location'][: len(leading)]
        frame = image.frame(flat_index(place, leading))
        return frame[(np.newaxis,) * len(leading)]

    chunks = (
        *((1,) * size for size in leading),
        *((size,) for size in image.frame_shape),
    )
    return dask.array.map_blocks(
        load,
        chunks=chunks,
        dtype=image.dtype,
        meta=np.empty((0,) * len(chunks), image.dtype),
        # An opened file has no content that Dask could tell it by.
        token=uuid.uuid4().hex,
    )
