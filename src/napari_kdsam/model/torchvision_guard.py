"""Import ``segment_anything`` even where torchvision's compiled operators cannot load.

``segment_anything`` imports torchvision, and torchvision refuses to import when
its C++ operators do not match the installed torch (a CUDA build of torchvision
next to a CPU build of torch, for instance). Nothing here needs those operators
apart from their names being known, so they are declared when they are missing.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

from napari_kdsam.core.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

_lock = threading.Lock()
# torch unregisters an operator when its Library object is collected.
_libraries: list[Any] = []


def non_maximum_suppression(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Keep the best of every group of overlapping boxes.

    Parameters
    ----------
    boxes : torch.Tensor
        (N, 4) float, as (x0, y0, x1, y1).
    scores : torch.Tensor
        (N,) float.
    iou_threshold : float
        Boxes overlapping a better one by more than this are dropped.

    Returns
    -------
    torch.Tensor
        (K,) int64 indices of the kept boxes, best score first.
    """
    import torch

    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = scores.argsort(descending=True, stable=True)
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[rest, :2])
        high = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        iou = overlap / (areas[best] + areas[rest] - overlap).clamp(min=1e-9)
        order = rest[iou <= iou_threshold]
    return torch.stack(kept) if kept else order.new_zeros(0)


def _declare_missing_operators() -> None:
    import torch

    if hasattr(torch.ops.torchvision, 'nms'):
        return
    library = torch.library.Library('torchvision', 'FRAGMENT')
    library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    library.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    library.impl('nms', non_maximum_suppression, 'CPU')
    _libraries.append(library)


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring its operators when they cannot load.

    Returns
    -------
    types.ModuleType
        The torchvision package.

    Raises
    ------
    RuntimeError
        If torchvision fails to import for another reason.
    """
    if 'torchvision' in sys.modules:
        return sys.modules['torchvision']
    try:
        return importlib.import_module('torchvision')
    except RuntimeError as error:
        if 'torchvision::' not in str(error):
            raise
    # The failed import shows that the operators will not load, so names cannot clash.
    for name in [n for n in sys.modules if n.split('.')[0] == 'torchvision']:
        del sys.modules[name]
    _declare_missing_operators()
    return importlib.import_module('torchvision')


def import_segment_anything() -> ModuleType:
    """Import ``segment_anything``; everything that needs it comes through here.

    Returns
    -------
    types.ModuleType
        The ``segment_anything`` package.

    Raises
    ------
    MissingExtraError
        If segment-anything or torchvision is not installed.
    """
    with _lock:
        try:
            import_torchvision()
            if 'segment_anything' not in sys.modules:
                # Parts left by an import that failed elsewhere (MONAI tries it) would
                # not become attributes of the package.
                for name in [
                    n for n in sys.modules if n.startswith('segment_anything.')
                ]:
                    del sys.modules[name]
            return importlib.import_module('segment_anything')
        except ImportError as error:
            raise MissingExtraError('Segmentation', 'all') from error
