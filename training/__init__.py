"""Training of KD SAM in two stages: encoder distillation, then decoder fine-tuning.

Needs the extra ``training``; the rest of the package never imports this one.
"""

from __future__ import annotations

from importlib.util import find_spec

from napari_kdsam.core.errors import MissingExtraError

REQUIRED_MODULES = ('kornia', 'lightning', 'monai', 'yaml', 'zarr')


def require_training_extra() -> None:
    """Check that what training needs is installed, without importing it.

    Raises
    ------
    MissingExtraError
        If a package of the extra ``training`` is missing.
    """
    if any(find_spec(name) is None for name in REQUIRED_MODULES):
        raise MissingExtraError('Training', 'training')
