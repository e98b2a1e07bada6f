"""One click on an ultrasound, dermoscopy or endoscopy image becomes a label, offline.

The public names are loaded when first used, so that importing the package (and
starting napari) loads neither torch nor Qt.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_kdsam.core.geometry import box_of_mask
    from napari_kdsam.core.intensity import IntensityMapping
    from napari_kdsam.core.mask_prompts import logits_of_mask
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.predictor import (
        Candidate,
        ImageEmbedding,
        Prediction,
        Predictor,
    )
    from napari_kdsam.inference.second_look import look_again
    from napari_kdsam.model.checkpoint import save_kdsam
    from napari_kdsam.model.loading import load_model
    from napari_kdsam.model.registry import list_models

_HOMES = {
    'Candidate': 'inference.predictor',
    'ImageEmbedding': 'inference.predictor',
    'IntensityMapping': 'core.intensity',
    'Prediction': 'inference.predictor',
    'Predictor': 'inference.predictor',
    'Prompt': 'core.prompts',
    'box_of_mask': 'core.geometry',
    'list_models': 'model.registry',
    'load_model': 'model.loading',
    'look_again': 'inference.second_look',
    'logits_of_mask': 'core.mask_prompts',
    'save_kdsam': 'model.checkpoint',
}

__all__ = [
    'Candidate',
    'ImageEmbedding',
    'IntensityMapping',
    'Prediction',
    'Predictor',
    'Prompt',
    '__version__',
    'box_of_mask',
    'list_models',
    'load_model',
    'logits_of_mask',
    'look_again',
    'save_kdsam',
]


def __getattr__(name: str) -> Any:
    if name == '__version__':
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version('napari-kdsam')
        except PackageNotFoundError:
            return '0+unknown'
    if name in _HOMES:
        value = getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
        globals()[name] = value
        return value
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted(__all__)
