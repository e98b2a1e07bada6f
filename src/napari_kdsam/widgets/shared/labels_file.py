"""Labels of a layer in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_NO_UNIT = 'pixel'
_UNIT = 'millimeter'


def write_labels_file(
    path: str, labels: NDArray[Any], attributes: dict[str, Any], mark: str = ''
) -> None:
    """Write labels of a layer as PNG, TIFF or NIfTI.

    Parameters
    ----------
    path : str
        ``.png``, ``.tif``, ``.tiff``, ``.nii`` or ``.nii.gz``.
    labels : numpy.ndarray
        (H, W), (T, H, W) or, for NIfTI, (T, Z, H, W) whole numbers.
    attributes : dict
        Of the layer. For NIfTI, the affine is that of the NIfTI file that
        ``metadata['source']`` names, where there is one; otherwise voxels get the
        layer's scale, if it is in units of length.
    mark : str
        What PNG and TIFF say of themselves; see `write_picture`.

    Raises
    ------
    ImageError
        If the labels do not fit the format, or the file cannot be written.
    MissingExtraError
        If NIfTI is asked for and nibabel is not installed.
    """
    from napari_kdsam.io.formats import NIFTI
    from napari_kdsam.io.label_images import write_labels

    if not NIFTI.names(path):
        write_labels(path, labels, mark)
        return
    from napari_kdsam.io.nifti import write_nifti_labels

    source = str(attributes.get('metadata', {}).get('source', ''))
    if NIFTI.names(source) and Path(source).is_file():
        write_nifti_labels(path, labels, like=source)
    else:
        write_nifti_labels(path, labels, spacing=_millimetres(attributes))


def _millimetres(attributes: dict[str, Any]) -> tuple[float, ...] | None:
    """Millimetres between pixels along all axes, None where rows are in pixels."""
    import pint

    registry = pint.get_application_registry()
    scale, units = attributes.get('scale'), attributes.get('units')
    if scale is None or units is None or str(units[-1]) == _NO_UNIT:
        return None
    found = []
    for step, unit in zip(scale, units, strict=True):
        length = registry.Quantity(abs(float(step)), str(unit))
        # Frames that lie in time have no distance.
        is_length = length.check('[length]')
        found.append(float(length.to(_UNIT).magnitude) if is_length else 1.0)
    return tuple(found)
