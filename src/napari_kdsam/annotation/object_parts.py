"""Parts into which a line cuts an object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import Position


def cut_along(region: PixelRegion, line: Sequence[Position]) -> list[PixelRegion]:
    """Cut a region along a line.

    Parameters
    ----------
    region : PixelRegion
    line : sequence of (row, column)
        Its vertices in image pixel coordinates; it may begin and end outside.

    Returns
    -------
    list of PixelRegion
        The largest part first, with the pixels of the line and all that the line does not
        touch; the region alone if the line does not cut through it.
    """
    from scipy import ndimage
    from skimage.draw import line as pixels_of_line

    row0, col0 = region.box[:2]
    mask = region.mask()
    cut = np.zeros_like(mask)
    places = [(round(row) - row0, round(column) - col0) for row, column in line]
    for start, end in zip(places, places[1:], strict=False):
        rows, columns = pixels_of_line(*start, *end)
        inside = (
            (rows >= 0)
            & (rows < mask.shape[0])
            & (columns >= 0)
            & (columns < mask.shape[1])
        )
        cut[rows[inside], columns[inside]] = True
    before, _ = ndimage.label(mask)
    # What touches by corners only is apart, as a line is that goes from corner to corner.
    parts, count = ndimage.label(mask & ~cut)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    # Each piece that was one before keeps its largest part.
    kept: dict[int, int] = {}
    for part in np.argsort(-sizes, kind='stable') + 1:
        piece = int(before[parts == part][0])
        kept.setdefault(piece, int(part))
    others = [part for part in range(1, count + 1) if part not in kept.values()]
    off = [PixelRegion.of_mask(region.frame, parts == p, (row0, col0)) for p in others]
    rest = PixelRegion.of_mask(
        region.frame, mask & ~np.isin(parts, others), (row0, col0)
    )
    return [part for part in (rest, *off) if part is not None]
