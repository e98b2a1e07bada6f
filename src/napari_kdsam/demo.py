"""The demonstration: real ultrasound images and phantoms, each with a fitting prompt.

The real images are the anonymised examples that come with pydicom; the phantoms are
drawn and have exact ground truth. Scores and Dice show that the installation works; they
say nothing about accuracy on patients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.batch.single_file import (
    SINGLE_ENDINGS,
    FileReport,
    FileSegmenter,
    Outputs,
)
from napari_kdsam.core.errors import MissingExtraError
from napari_kdsam.core.prompts import ObjectPrompt, Prompt
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.label_images import write_picture, write_stack
from napari_kdsam.io.results import DRAWN
from napari_kdsam.phantoms import (
    Phantom,
    dermoscopy_phantom,
    endoscopy_phantom,
    ultrasound_phantom,
)

_CINE_FRAMES = 6
_PHANTOM_FILES = (
    'dermoscopy_phantom.png',
    'endoscopy_phantom.png',
    'ultrasound_phantom.png',
    'ultrasound_phantom_cine.tif',
)


@dataclass(frozen=True, eq=False)
class DemoCase:
    """An image and how its object is prompted.

    Attributes
    ----------
    name : str
        Start of the result files' names.
    what : str
        What the prompt points at.
    path : pathlib.Path
        The image file.
    prompt : Prompt
        In image pixel coordinates, the same in every frame.
    truth : numpy.ndarray or None
        bool, (H, W) or (T, H, W), where the exact answer is known.
    """

    name: str
    what: str
    path: Path
    prompt: Prompt
    truth: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demonstration shows of one image.

    Attributes
    ----------
    name : str
        The case's name.
    image : numpy.ndarray
        (H, W), (H, W, 3), (T, H, W) or (T, H, W, 3) uint8.
    rgb : bool
        Whether the last axis of `image` holds colours.
    labels : numpy.ndarray
        (H, W) or (T, H, W) uint8, 0 for background.
    """

    name: str
    image: NDArray[np.uint8]
    rgb: bool
    labels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class DemoOutcome:
    """Numbers of one case.

    Attributes
    ----------
    case : DemoCase
        What was segmented.
    report : FileReport
        Scores, pixels and files.
    dice : float or None
        Overlap with the truth, 0..1, over all frames together.
    seconds : float
        From opening the file to the last result written.
    """

    case: DemoCase
    report: FileReport
    dice: float | None
    seconds: float


def dice_of(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks of one shape, 1 if both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def real_cases() -> list[DemoCase]:
    """List the real ultrasound images that come with pydicom.

    Raises
    ------
    MissingExtraError
        If pydicom is not installed.
    """
    try:
        from pydicom.examples import get_path
    except ImportError as error:
        raise MissingExtraError('The demonstration', 'medical') from error

    def case(name: str, what: str, example: str, prompt: Prompt) -> DemoCase:
        return DemoCase(name, what, Path(get_path(example)), prompt)

    return [
        case(
            'lymph_node',
            'lymph node under colour Doppler',
            'rgb_color',
            # The point outside keeps the line between the two views out of the mask.
            Prompt(points=[(143, 160)], labels=[0], box=(83, 36, 140, 262)),
        ),
        case(
            'heart_cine',
            'left ventricle, 30 frames',
            'ybr_color',
            Prompt(box=(64, 156, 130, 202)),
        ),
        case(
            'near_field',
            'near field of a test phantom',
            'palette_color',
            Prompt(points=[(120, 460)]),
        ),
        case(
            'lymph_node_jpeg2000',
            'the same lymph node at twice the size',
            'jpeg2k',
            Prompt(box=(164, 72, 280, 524)),
        ),
    ]


def files_written(folder: Path, cases: Sequence[DemoCase]) -> list[Path]:
    """List what the demonstration may write.

    Parameters
    ----------
    folder : pathlib.Path
        Where to.
    cases : sequence of DemoCase
        From `real_cases`; the phantoms are added.
    """
    stems = [case.name for case in cases] + [Path(name).stem for name in _PHANTOM_FILES]
    results = [f'{stem}{ending}' for stem in stems for ending in SINGLE_ENDINGS]
    return [folder / name for name in (*_PHANTOM_FILES, *results)]


def phantom_cases(folder: Path) -> list[DemoCase]:
    """Draw the phantoms and write them as image files.

    Parameters
    ----------
    folder : pathlib.Path
        Existing folder for the images.

    Raises
    ------
    ImageError
        If an image cannot be written.
    """
    dermoscopy, endoscopy = dermoscopy_phantom(), endoscopy_phantom()
    ultrasound, cine = ultrasound_phantom(), ultrasound_phantom(frames=_CINE_FRAMES)

    def case(name: str, what: str, phantom: Phantom, prompt: Prompt) -> DemoCase:
        path = _write_phantom(folder / name, phantom)
        return DemoCase(name, what, path, prompt, phantom.mask)

    return [
        case(
            'dermoscopy_phantom',
            'skin lesion',
            dermoscopy,
            Prompt(points=[dermoscopy.click], box=dermoscopy.box),
        ),
        case('endoscopy_phantom', 'polyp', endoscopy, Prompt(box=endoscopy.box)),
        case(
            'ultrasound_phantom',
            'lesion',
            ultrasound,
            Prompt(points=[ultrasound.click]),
        ),
        case(
            'ultrasound_phantom_cine',
            f'moving lesion, {_CINE_FRAMES} frames',
            cine,
            Prompt(points=[cine.click]),
        ),
    ]


def _write_phantom(start: Path, phantom: Phantom) -> Path:
    image = phantom.image
    if phantom.mask.ndim == 2:
        path = start.with_suffix('.png')
        write_picture(path, image, DRAWN)
    else:
        path = start.with_suffix('.tif')
        write_stack(path, image, image.shape, image.dtype, DRAWN)
    return path


def run_case(
    segmenter: FileSegmenter,
    case: DemoCase,
    folder: Path,
    on_frame: Callable[[float, int], None] = lambda done, total: None,
) -> DemoOutcome:
    """Segment one case as ``napari-kdsam segment --overlay`` would.

    Parameters
    ----------
    segmenter : FileSegmenter
        With a loaded model.
    case : DemoCase
        From `real_cases` or `phantom_cases`.
    folder : pathlib.Path
        Existing folder for the results.
    on_frame : callable
        Called with the numbers of frames done and to do.

    Raises
    ------
    KDSAMError
        If the image cannot be read or a result cannot be written.
    """
    started = time.perf_counter()
    outputs = Outputs(folder, case.name, overlay=True)
    with open_image(case.path) as image:
        objects = [ObjectPrompt(case.prompt)]
        report = segmenter.segment(image, objects, outputs, on_frame=on_frame)
    seconds = time.perf_counter() - started
    dice = None
    if case.truth is not None:
        with open_image(report.written[0]) as labels:
            dice = dice_of(labels.every_frame() > 0, case.truth)
    return DemoOutcome(case, report, dice, seconds)


def result_of(outcome: DemoOutcome) -> DemoResult:
    """Load the image and its labels for a viewer.

    Parameters
    ----------
    outcome : DemoOutcome
        From `run_case`.
    """
    case = outcome.case
    with open_image(case.path) as image:
        rgb = len(image.frame_shape) == 3
        pixels = image.every_frame()
    with open_image(outcome.report.written[0]) as labels:
        return DemoResult(case.name, pixels, rgb, labels.every_frame())
