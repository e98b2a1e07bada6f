"""DICOM data sets, made up and those that come with pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

from napari_kdsam.io.formats import open_image


def dataset_of(pixels: np.ndarray, frames: int = 1, **attributes: Any) -> Dataset:
    """A minimal DICOM data set; `attributes` come last and may replace any."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = '1.2.3.4'
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, '1.2.3.4'
    dataset.PatientName, dataset.PatientID = 'Doe^Jane', 'secret-7'
    colour = pixels.shape[-1] == 3
    bits = 8 * pixels.dtype.itemsize
    dataset.Rows, dataset.Columns = pixels.shape[frames > 1 :][:2]
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = 'RGB' if colour else 'MONOCHROME2'
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == 'i')
    dataset.PixelData = pixels.tobytes()
    dataset['PixelData'].VR = 'OB' if bits == 8 else 'OW'
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def region(**attributes: Any) -> Dataset:
    usual: dict[str, Any] = {
        'RegionSpatialFormat': 1,
        'RegionLocationMinX0': 0,
        'RegionLocationMinY0': 0,
        'RegionLocationMaxX1': 15,
        'RegionLocationMaxY1': 15,
        'PhysicalUnitsXDirection': 3,
        'PhysicalUnitsYDirection': 3,
        'PhysicalDeltaX': 0.02,
        'PhysicalDeltaY': -0.01,
    }
    return item(**{**usual, **attributes})


def example(name: str) -> Path:
    return Path(pydicom.examples.get_path(name))


def labels_for(path: Path) -> np.ndarray:
    """Three labels, one of them in every third frame only, one of a single pixel."""
    with open_image(path) as image:
        shape = (image.frame_count, *image.frame_shape[:2])
    labels = np.zeros(shape, np.uint16)
    for time, frame in enumerate(labels):
        frame[4 + time : 20 + time, 5:19] = 7
        if time % 3 == 0:
            frame[30:40, 20:60] = 300
    labels[-1, -1, -1] = 2
    return labels
