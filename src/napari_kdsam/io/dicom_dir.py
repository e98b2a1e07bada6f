"""DICOMDIR: the table of contents of a disc of DICOM files."""

from __future__ import annotations

from pathlib import Path

from napari_kdsam.core.errors import ImageError, MissingExtraError, excerpt
from napari_kdsam.io.dicom_mark import MARK_BYTES, is_dicom
from napari_kdsam.io.image_file import reading

# The standard (PS3.10, 8.6) leaves no other name.
_NAME = 'dicomdir'


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a table of contents, by its name and its content."""
    if path.name.casefold() != _NAME or not path.is_file():
        return False
    with reading(path.name), path.open('rb') as file:
        return is_dicom(file.read(MARK_BYTES))


def files_of_dicomdir(path: Path) -> list[Path]:
    """List the files that a table of contents names, whether they are there or not.

    Parameters
    ----------
    path : pathlib.Path
        The DICOMDIR.

    Returns
    -------
    list of pathlib.Path
        In its order; images, and whatever else is on the disc.

    Raises
    ------
    ImageError
        If it is damaged, names no file, or one outside its folder.
    MissingExtraError
        If pydicom is not installed.
    """
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise MissingExtraError('Reading DICOM', 'medical') from error
    with reading(path.name):
        table = dcmread(path, specific_tags=['DirectoryRecordSequence'], force=True)
        named = [
            record.ReferencedFileID
            for record in table.get('DirectoryRecordSequence') or []
            if record.get('ReferencedFileID')
        ]
        found = [
            _file(path, [name] if isinstance(name, str) else list(name))
            for name in named
        ]
    if not found:
        raise ImageError(f'{path.name} names no file; give the folder of the images.')
    return list(dict.fromkeys(found))


def _file(table: Path, parts: list[str]) -> Path:
    place = table.parent
    for part in parts:
        if part in ('', '.', '..') or '/' in part or '\\' in part:
            raise ImageError(
                f'{table.name} names {excerpt("/".join(parts))}, which is no file of '
                'its disc; give the folder of the images.'
            )
        place = _beside(place, part)
    return place


def _beside(folder: Path, name: str) -> Path:
    """A file or folder of a name; copies of discs may have it in small letters."""
    exact = folder / name
    if exact.exists() or not folder.is_dir():
        return exact
    alike = (
        item for item in folder.iterdir() if item.name.casefold() == name.casefold()
    )
    return next(alike, exact)
