"""Whether optional parts of the package can be used here."""

from __future__ import annotations

from importlib.util import find_spec

from napari_kdsam.core.errors import MissingExtraError

_TRAINING_MODULES = ('kornia', 'lightning', 'monai', 'yaml', 'zarr')


def require_training_extra() -> None:
    """Check that what training needs is installed, without importing it.

    Raises
    ------
    MissingExtraError
        If a package of the extra ``training`` is missing.
    """
    if any(find_spec(name) is None for name in _TRAINING_MODULES):
        raise MissingExtraError('Training', 'training')
