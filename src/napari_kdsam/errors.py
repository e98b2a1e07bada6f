"""Errors a user can act on: each message is one sentence saying what was wrong and what to do."""


class KDSAMError(Exception):
    """Base of every error this package raises on purpose."""


class ImageError(KDSAMError, ValueError):
    """An image or image file that cannot be used."""


class PromptError(KDSAMError, ValueError):
    """A prompt, or a prompt file, that cannot be used."""


class CheckpointError(KDSAMError, ValueError):
    """A weights file that cannot be used."""


class ModelNotFoundError(KDSAMError, LookupError):
    """A model name that is unknown, or whose files are not on this computer."""


class DeviceError(KDSAMError, RuntimeError):
    """A compute device that is unknown or not available."""


class MissingExtraError(KDSAMError, ImportError):
    """An optional dependency that is not installed.

    Parameters
    ----------
    purpose : str
        What the user wanted, as the start of the sentence ("Reading DICOM").
    extra : str
        Name of the extra to install.
    """

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(
            f'{purpose} needs packages that are not installed; '
            f"install them with: pip install 'napari-kdsam[{extra}]'"
        )
        self.extra = extra
