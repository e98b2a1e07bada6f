"""Images to try the plugin with, for napari's File > Open Sample menu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam import phantoms
from napari_kdsam.core.errors import MissingExtraError
from napari_kdsam.io.formats import open_image

LayerData = tuple[NDArray[Any], dict[str, Any], str]


def lymph_node_ultrasound() -> list[LayerData]:
    """Lymph node under colour Doppler, an anonymised example of pydicom.

    Returns
    -------
    list of tuple
        One RGB image layer, (240, 320, 3) uint8.

    Raises
    ------
    MissingExtraError
        If pydicom is not installed.
    """
    return [_pydicom_example('rgb_color', 'Lymph node ultrasound')]


def heart_ultrasound_cine() -> list[LayerData]:
    """Beating heart, an anonymised example of pydicom.

    Returns
    -------
    list of tuple
        One RGB image layer, (30, 240, 320, 3) uint8, frames first.

    Raises
    ------
    MissingExtraError
        If pydicom or the JPEG decoder is not installed.
    """
    return [_pydicom_example('ybr_color', 'Heart ultrasound cine')]


def dermoscopy_phantom() -> list[LayerData]:
    """Drawn dermoscopy image with its ground truth.

    Returns
    -------
    list of tuple
        An RGB image layer, (H, W, 3) uint8, and a hidden labels layer, (H, W) uint8.
    """
    return _phantom_layers(phantoms.dermoscopy_phantom(), 'Dermoscopy phantom')


def endoscopy_phantom() -> list[LayerData]:
    """Drawn endoscopy image with its ground truth.

    Returns
    -------
    list of tuple
        An RGB image layer, (H, W, 3) uint8, and a hidden labels layer, (H, W) uint8.
    """
    return _phantom_layers(phantoms.endoscopy_phantom(), 'Endoscopy phantom')


def ultrasound_phantom() -> list[LayerData]:
    """Drawn ultrasound image with its ground truth.

    Returns
    -------
    list of tuple
        A grey image layer, (H, W) uint8, and a hidden labels layer, (H, W) uint8.
    """
    return _phantom_layers(phantoms.ultrasound_phantom(), 'Ultrasound phantom')


def _pydicom_example(example: str, name: str) -> LayerData:
    try:
        from pydicom.examples import get_path
    except ImportError as error:
        raise MissingExtraError('This sample', 'medical') from error
    with open_image(get_path(example)) as image:
        pixels = image.every_frame()
    return pixels, {'name': name, 'rgb': True}, 'image'


def _phantom_layers(phantom: phantoms.Phantom, name: str) -> list[LayerData]:
    rgb = phantom.image.ndim == phantom.mask.ndim + 1
    truth = {'name': f'{name}: ground truth', 'visible': False}
    return [
        (phantom.image, {'name': name, 'rgb': rgb}, 'image'),
        (phantom.mask.astype(np.uint8), truth, 'labels'),
    ]
