"""Choice of compute device and precision."""

from __future__ import annotations

import torch

from napari_kdsam.core.errors import DeviceError

DEVICES = ('auto', 'cpu', 'cuda', 'mps')


def available_devices() -> list[str]:
    """List the devices that can be used here, best first."""
    found = []
    if torch.cuda.is_available():
        found.append('cuda')
    if torch.backends.mps.is_available():
        found.append('mps')
    return [*found, 'cpu']


def resolve_device(name: str = 'auto') -> torch.device:
    """Turn a device name into a device that exists here.

    Parameters
    ----------
    name : str
        ``auto`` (the best available), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    DeviceError
        If the name is unknown or the device is not available.
    """
    available = available_devices()
    if name == 'auto':
        return torch.device(available[0])
    kind, _, index = name.partition(':')
    if kind not in DEVICES or (index and not index.isdigit()):
        raise DeviceError(
            f'There is no device called {name!r}; use {", ".join(DEVICES)}.'
        )
    if kind not in available:
        raise DeviceError(
            f'The device {name!r} is not available to torch {torch.__version__} on '
            f'this computer; use {" or ".join(available)}.'
        )
    if kind == 'cuda' and index and int(index) >= torch.cuda.device_count():
        raise DeviceError(
            f'There is no {name!r}: this computer has {torch.cuda.device_count()} '
            'CUDA device(s), counted from 0.'
        )
    return torch.device(name)


def _reports_capabilities() -> bool:
    # Older torch cannot say what the processor does; float32 is safe there.
    return hasattr(torch.cpu, 'get_capabilities')


def preferred_dtype(device: torch.device) -> torch.dtype:
    """Choose bfloat16 on CPUs with instructions for it, float32 elsewhere."""
    # Emulated bfloat16 is slower than float32, so only native support counts.
    capabilities = torch.cpu.get_capabilities() if _reports_capabilities() else {}
    native = capabilities.get('avx512_bf16') or capabilities.get('amx_bf16')
    return torch.bfloat16 if device.type == 'cpu' and native else torch.float32
