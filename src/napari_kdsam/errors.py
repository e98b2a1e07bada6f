"""The errors that users of the package catch; they are defined in `core.errors`."""

from napari_kdsam.core.errors import (
    CheckpointError,
    DeviceError,
    ImageError,
    KDSAMError,
    MissingExtraError,
    ModelNotFoundError,
    PromptError,
)

__all__ = [
    'CheckpointError',
    'DeviceError',
    'ImageError',
    'KDSAMError',
    'MissingExtraError',
    'ModelNotFoundError',
    'PromptError',
]
