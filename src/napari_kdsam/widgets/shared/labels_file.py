"""Labels of a layer in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_kdsam.widgets.shared.transforms import millimetres_of


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
        spacing = millimetres_of(attributes.get('scale'), attributes.get('units'))
        write_nifti_labels(path, labels, spacing=spacing)
