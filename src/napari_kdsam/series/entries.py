"""What is known of each image of a series, and which images are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class ImageStatus(StrEnum):
    """How far an image is."""

    new = 'new'
    done = 'done'
    no_lesion = 'no lesion'
    failed = 'failed'


@dataclass(frozen=True)
class SeriesEntry:
    """One image of a series.

    Attributes
    ----------
    name : str
        Path of the image from the folder of the series; the whole path if it is
        elsewhere.
    status : ImageStatus
    unsure : bool
        Whether somebody else shall look at it.
    checked : bool
        Whether its labels were looked at a second time.
    tags : tuple of str
        Such as "poor quality".
    note : str
    reason : str
        Why the image could not be opened.
    objects : int
        How many are in its labels.
    classes : mapping of int to str
        Label to the name of its class.
    labels : str
        Path of its labels from the folder of the labels; empty for none.
    digest : str
        Of that file as it was written; see `digest_of_file`.
    image_key : str
        Tells the image from others; see `key_of_image`.
    """

    name: str
    status: ImageStatus = ImageStatus.new
    unsure: bool = False
    checked: bool = False
    tags: tuple[str, ...] = ()
    note: str = ''
    reason: str = ''
    objects: int = 0
    classes: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    labels: str = ''
    digest: str = ''
    image_key: str = ''

    @property
    def untouched(self) -> bool:
        """Whether there is nothing to be remembered of it."""
        return self == SeriesEntry(self.name)

    def matches(self, text: str) -> bool:
        """Whether name, tags or note contain a text, in small or capital letters."""
        wanted = text.casefold()
        return any(
            wanted in one.casefold() for one in (self.name, *self.tags, self.note)
        )


# What a list can be cut down to, by the words that the user chooses from.
FILTERS: Mapping[str, Callable[[SeriesEntry], bool]] = MappingProxyType(
    {
        'All': lambda entry: True,
        'To do': lambda entry: entry.status is ImageStatus.new,
        'Done': lambda entry: entry.status is ImageStatus.done,
        'No lesion': lambda entry: entry.status is ImageStatus.no_lesion,
        'Unsure': lambda entry: entry.unsure,
        'Not checked': lambda entry: (
            not entry.checked
            and entry.status in (ImageStatus.done, ImageStatus.no_lesion)
        ),
        'Checked': lambda entry: entry.checked,
        'Failed': lambda entry: entry.status is ImageStatus.failed,
        'With note or tag': lambda entry: bool(entry.note or entry.tags),
    }
)
