"""Where a process trains."""

from __future__ import annotations

import os

import torch

from napari_kdsam.model.device import resolve_device
from napari_kdsam.training.config import LoopConfig


def training_device(loop: LoopConfig) -> torch.device:
    """Find the device that Lightning will choose for this process.

    Raises
    ------
    DeviceError
        If the configuration names a device that is not here.
    """
    name = loop.accelerator
    if name == 'gpu':
        name = 'mps' if torch.backends.mps.is_available() else 'cuda'
    device = resolve_device(name)
    if device.type == 'cuda':
        return torch.device('cuda', int(os.environ.get('LOCAL_RANK', '0')))
    return device
