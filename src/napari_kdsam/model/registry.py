"""The models known by name: what each is, its licence, its size and where its file is.

Nothing here imports torch, so that listings and menus are instant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from platformdirs import user_data_path

from napari_kdsam.core.errors import ModelNotFoundError

DEFAULT_MODEL = 'kdsam'
MODELS_VARIABLE = 'NAPARI_KDSAM_MODELS'
_BUNDLED_FOLDER = Path(__file__).resolve().parent.parent / 'weights'
BUNDLED_HEAD = _BUNDLED_FOLDER / 'kdsam-proposals.safetensors'
WEIGHTS_SUFFIXES = ('.safetensors', '.pth', '.pt', '.onnx')


@dataclass(frozen=True)
class ModelEntry:
    """A model known by name.

    Attributes
    ----------
    name : str
        What to pass to `load_model`.
    title : str
        One line for a listing.
    filename : str
        Name of its weights file.
    licence : str
        Terms of the weights.
    megabytes : int
        Size of the weights file, rounded.
    parameters : str
        Number of parameters, as shown to users.
    input_size : int
        Side of the encoder's input in pixels.
    bundled : bool
        Whether the file comes with the package.
    url : str
        Where the publisher offers the file; empty if only the user can supply it.
    sha256 : str
        Checksum of the file at `url`.
    companion : str
        Another file needed beside this one.
    """

    name: str
    title: str
    filename: str
    licence: str
    megabytes: int
    parameters: str
    input_size: int
    bundled: bool = False
    url: str = ''
    sha256: str = ''
    companion: str = ''

    @property
    def path(self) -> Path:
        """Where the weights file is, or would be."""
        folder = _BUNDLED_FOLDER if self.bundled else models_folder()
        return folder / self.filename

    @property
    def available(self) -> bool:
        """Whether every file the model needs is on this computer."""
        needed = [self.path]
        if self.companion:
            needed.append(self.path.with_name(self.companion))
        return all(path.is_file() for path in needed)


_META = 'https://dl.fbaipublicfiles.com/segment_anything/'
_ENTRIES = (
    ModelEntry(
        DEFAULT_MODEL,
        'KD SAM: ResNet-50 student for ultrasound, dermoscopy and endoscopy',
        'kdsam-resnet50-512.safetensors',
        'Apache-2.0 code; weights trained on research-licensed data',
        59,
        '29.7 M',
        512,
        bundled=True,
    ),
    ModelEntry(
        'mobile_sam',
        "MobileSAM: TinyViT encoder (ONNX) with SAM's mask decoder",
        'mobile_sam_encoder.onnx',
        'Apache-2.0',
        28,
        '10.1 M',
        1024,
        companion='sam_prompt_mask_decoder.safetensors',
    ),
    ModelEntry(
        'sam_vit_b',
        'Segment Anything, ViT-B',
        'sam_vit_b_01ec64.pth',
        'Apache-2.0',
        375,
        '93.7 M',
        1024,
        url=f'{_META}sam_vit_b_01ec64.pth',
        sha256='ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912',
    ),
    ModelEntry(
        'sam_vit_l',
        'Segment Anything, ViT-L',
        'sam_vit_l_0b3195.pth',
        'Apache-2.0',
        1250,
        '312.3 M',
        1024,
        url=f'{_META}sam_vit_l_0b3195.pth',
        sha256='3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622',
    ),
    ModelEntry(
        'sam_vit_h',
        'Segment Anything, ViT-H (the teacher of the paper)',
        'sam_vit_h_4b8939.pth',
        'Apache-2.0',
        2565,
        '641.1 M',
        1024,
        url=f'{_META}sam_vit_h_4b8939.pth',
        sha256='a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e',
    ),
)


def models_folder() -> Path:
    """Folder for model files the user adds or downloads.

    The environment variable ``NAPARI_KDSAM_MODELS`` overrides the default, the
    user's data directory.
    """
    chosen = os.environ.get(MODELS_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return user_data_path('napari-kdsam', appauthor=False) / 'models'


def list_models() -> list[ModelEntry]:
    """List the models known by name, the default first."""
    return list(_ENTRIES)


def find_model(name: str) -> ModelEntry:
    """Look a model up by name.

    Parameters
    ----------
    name : str
        As listed by `list_models`.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    """
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    known = ', '.join(entry.name for entry in _ENTRIES)
    raise ModelNotFoundError(
        f'There is no model called {name!r}; choose {known}, or give the path of a '
        f'weights file ({", ".join(WEIGHTS_SUFFIXES)}).'
    )


def missing_files_message(entry: ModelEntry) -> str:
    """Say what a known but absent model needs, in one sentence."""
    needed = [entry.filename, *([entry.companion] if entry.companion else [])]
    message = (
        f'The model {entry.name!r} is not on this computer: '
        f'put {" and ".join(needed)} in {entry.path.parent}'
    )
    if entry.url:
        message += f', or run: napari-kdsam models --download {entry.name}'
    return message


class _TooLarge(ValueError):
    """More came than the file that was asked for."""


class _Limited:
    """A file that takes only so many bytes.

    Parameters
    ----------
    file : binary file
        Open for writing.
    most_bytes : int
    """

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file, self._left = file, most_bytes

    def write(self, content: bytes) -> int:
        """Write; raises `_TooLarge` where it would be too much."""
        self._left -= len(content)
        if self._left < 0:
            raise _TooLarge
        return self._file.write(content)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()


def download_model(name: str, *, progress: bool = False) -> Path:
    """Download a model's weights from its publisher; never called without being asked.

    Parameters
    ----------
    name : str
        As listed by `list_models`.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    pathlib.Path
        The verified file; an existing file with the right checksum is kept.

    Raises
    ------
    ModelNotFoundError
        If there is no such model, it offers no download, or the download fails, is
        larger than the published file or does not have its checksum.
    """
    import pooch

    entry = find_model(name)
    if entry.bundled:
        return entry.path
    if not entry.url:
        raise ModelNotFoundError(missing_files_message(entry) + '.')
    # The caller says what happens; pooch would say it again on standard error.
    pooch.get_logger().setLevel('WARNING')
    fetch = pooch.HTTPDownloader(progressbar=progress, timeout=60)

    def within_its_size(url: str, path: str, asking: Any) -> None:
        with Path(path).open('wb') as file:
            # The entry's size is rounded.
            fetch(url, _Limited(file, (entry.megabytes + 1) * 1_000_000), asking)

    try:
        # pooch writes to a temporary name and renames once the checksum fits.
        found = pooch.retrieve(
            entry.url,
            known_hash=f'sha256:{entry.sha256}',
            fname=entry.filename,
            path=entry.path.parent,
            downloader=within_its_size,
        )
    except (OSError, ValueError) as error:
        reason = 'what arrived is not the published file: its checksum differs'
        if isinstance(error, _TooLarge):
            reason = f'more arrived than the {entry.megabytes} MB of the published file'
        elif isinstance(error, OSError):
            reason = str(error).splitlines()[0]
        raise ModelNotFoundError(
            f'Downloading {name!r} failed ({reason}); try again, or put '
            f'{entry.filename} in {entry.path.parent} yourself.'
        ) from error
    return Path(found)
