"""Errors a user can act on: each message is one sentence saying what was wrong and what to do."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

from napari_kdsam.core.names import printable

# As much of a file's content as a message quotes.
MOST_QUOTED = 200
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = MOST_QUOTED


def excerpt(text: object) -> str:
    """One line of what a file or a library says, cut where it is long, for a message."""
    line = ' '.join(str(text).split())
    if len(line) > MOST_QUOTED:
        line = f'{line[: MOST_QUOTED - 3]}...'
    return printable(line)


def quoted(value: object) -> str:
    """A value as Python would write it, cut where it is long, for a message."""
    try:
        return excerpt(_repr.repr(value))
    except ValueError:
        # Python refuses to write whole numbers of thousands of digits.
        return f'{type(value).__name__} of very many digits'


def first_of(names: Sequence[str], shown: int = 3) -> str:
    """Join names for a message, the first few of them and how many more there are."""
    more = len(names) - shown
    return excerpt(', '.join(names[:shown])) + (f' and {more} more' if more > 0 else '')


class KDSAMError(Exception):
    """Base of every error this package raises on purpose."""


class ImageError(KDSAMError, ValueError):
    """An image or image file that cannot be used."""


class NotAnImageError(ImageError):
    """A file of a known kind that holds something else than an image to segment."""


class SoftMaskWarning(UserWarning):
    """A mask with soft outlines, of which one object was taken."""


class NotWrittenError(ImageError):
    """A file that cannot be written, such as on a full disk."""


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


def counted(number: int, noun: str) -> str:
    """Say how many there are, such as ``1 object`` or ``2 objects``."""
    return f'{number} {noun}{"s" * (number != 1)}'
