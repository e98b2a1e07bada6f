"""COCO files: objects of many images as JSON, with masks as RLE or polygons.

One annotation is one object. Besides what COCO asks for, an annotation has its value in
the label image as ``label``, and an image that is a frame of a stack has the number of
the frame as ``frame``; other programs leave these alone. Both forms give the very pixels
back: polygons run through the middles of pixel edges, holes are joined to the outline by
a line that is walked both ways, and parts that do not touch are polygons of their own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import (
    ImageError,
    KDSAMError,
    MissingExtraError,
    PromptError,
    excerpt,
    quoted,
)
from napari_kdsam.core.files import MARK, write_json
from napari_kdsam.core.image_names import name_parts
from napari_kdsam.core.label_image import add_object, label_dtype
from napari_kdsam.core.mask_outlines import outlines_of
from napari_kdsam.core.prompts import ObjectPrompt, Prompt, PromptSet
from napari_kdsam.io.label_images import check_labels
from napari_kdsam.io.limits import check_size

_NO_CLASS = 'object'
# Far below a pixel, far above rounding: drops only points on straight lines.
_STRAIGHT = 1e-6
_MOST_LABEL = 2**32 - 1
_LEAST_CORNERS = 3
# Image sides that a polygon may be away from its image.
_FARTHEST = 10


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image by its name, and its objects.

    Attributes
    ----------
    name : str
        File name as the COCO file has it, usually without folder.
    labels : numpy.ndarray
        (H, W) whole numbers, 0 for background.
    classes : dict
        Label to the name of its class; ``object`` for those left out.
    frame : int or None
        Which frame of a stack it is, counted from 0.
    notes : tuple of str
        What of the file was left out.
    """

    name: str
    labels: NDArray[Any]
    classes: Mapping[int, str] = field(default_factory=dict)
    frame: int | None = None
    notes: tuple[str, ...] = ()


def write_coco(
    path: str | os.PathLike[str],
    images: Iterable[LabelledImage],
    *,
    form: Literal['rle', 'polygon'] = 'rle',
    categories: Sequence[str] = (),
) -> None:
    """Write label images as a COCO file; one is in memory at a time.

    Parameters
    ----------
    path : path-like
        The JSON file.
    images : iterable of LabelledImage
        The images, also those without objects.
    form : {'rle', 'polygon'}
        How masks are written; both keep every pixel.
    categories : sequence of str
        Classes in the order of their numbers, counted from 1; further ones are added
        as they come.

    Raises
    ------
    ImageError
        If labels are no whole numbers of shape (H, W), or the file cannot be written.
    MissingExtraError
        If pycocotools is not installed.
    """
    mask = _pycocotools()
    numbers = {name: number for number, name in enumerate(categories, start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        check_labels(image.name, image.labels, dimensions=(2,))
        rows, columns = image.labels.shape
        entry = {
            'id': len(entries) + 1,
            'file_name': image.name,
            'height': rows,
            'width': columns,
        }
        entries.append(
            entry if image.frame is None else {**entry, 'frame': image.frame}
        )
        for label in (int(value) for value in np.unique(image.labels) if value):
            class_name = image.classes.get(label) or _NO_CLASS
            pixels = image.labels == label
            encoded = mask.encode(np.asfortranarray(pixels, np.uint8))
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': entry['id'],
                    'category_id': numbers.setdefault(class_name, len(numbers) + 1),
                    'segmentation': _outlines(pixels)
                    if form == 'polygon'
                    else {
                        'size': [rows, columns],
                        'counts': encoded['counts'].decode('ascii'),
                    },
                    'area': int(mask.area(encoded)),
                    'bbox': [float(edge) for edge in mask.toBbox(encoded)],
                    'iscrowd': 0,
                    'label': label,
                }
            )
    value = {
        # At the start, where it tells a result from a file of somebody else.
        'info': {'contributor': MARK},
        'images': entries,
        'annotations': annotations,
        'categories': [
            {'id': number, 'name': name} for name, number in numbers.items()
        ],
    }
    write_json(path, value)


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError('Reading and writing COCO masks', 'medical') from error
    return mask


def _outlines(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Polygons [x0, y0, x1, y1, ...], pixel corners at integers, one for each part."""
    from skimage.measure import approximate_polygon

    found = []
    for lines in outlines_of(mask):
        rings = [approximate_polygon(line, _STRAIGHT)[:-1] for line in lines]
        outline = rings[0]
        for hole in rings[1:]:
            outline = _joined(outline, hole)
        # From pixel centres to corners.
        found.append((outline + 0.5)[:, ::-1].ravel().tolist())
    return found


def _joined(
    outline: NDArray[np.float64], hole: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cut from the outline to the hole where they are nearest, and back."""
    from scipy.spatial import KDTree

    distances, nearest = KDTree(outline).query(hole)
    start = int(distances.argmin())
    place = int(nearest[start])
    around = np.roll(hole, -start, axis=0)
    return np.concatenate([outline[: place + 1], around, around[:1], outline[place:]])


@dataclass(frozen=True)
class _Image:
    """What a COCO file says of an image."""

    name: str
    shape: tuple[int, int] | None
    frame: int | None


@dataclass(frozen=True)
class _Contents:
    """A COCO file after its structure has been checked."""

    source: str
    images: dict[Any, _Image]
    annotations: list[Mapping[str, Any]]
    categories: dict[Any, str]

    def where(self, item: Mapping[str, Any]) -> str:
        """An object, for a message."""
        return f'{self.source}, object {excerpt(item["id"])}'


def _contents(value: Any, source: str, error_class: type[KDSAMError]) -> _Contents:
    try:
        images = {
            number: _Image(
                _text(image['file_name']),
                _size(image),
                _whole(image.get('frame')),
            )
            for number, image in _by_id(value['images'], 'images')
        }
        categories = {
            number: str(item['name'])
            for number, item in _by_id(value.get('categories', []), 'categories')
        }
        annotations = [
            item
            for _, item in _by_id(value['annotations'], 'annotations')
            if not item.get('iscrowd')
        ]
        for item in annotations:
            images[item['image_id']], hash(item.get('category_id'))
    except PromptError as error:
        raise error_class(f'{source} {error}') from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise error_class(
            f'{source} is not a COCO file of objects, or an object has no image '
            f'({type(error).__name__}: {excerpt(error)}); export it again.'
        ) from error
    return _Contents(source, images, annotations, categories)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f'{quoted(value)} is no name')
    return value


def _by_id(items: Any, what: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    seen = set()
    for item in items:
        number = item['id']
        if number in seen:
            raise PromptError(
                f'has two {what} with the id {quoted(number)}, so it is not clear what '
                'belongs to which; export it again.'
            )
        seen.add(number)
        yield number, item


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns; None where they are not said, for which some write 0."""
    rows, columns = _whole(image.get('height')), _whole(image.get('width'))
    if bool(rows) != bool(columns):
        raise PromptError(
            f'gives {excerpt(image["file_name"])} a {"height" if rows else "width"} '
            f'and no {"width" if rows else "height"}; export it again.'
        )
    return (rows, columns) if rows and columns else None


def _whole(value: Any) -> int | None:
    if value is None:
        return None
    number = int(value)
    if isinstance(value, bool) or number != float(value) or number < 0:
        raise ValueError(f'{quoted(value)} is no whole number')
    return number


def coco_prompts(value: Any, source: str) -> PromptSet:
    """Take the boxes of a COCO file for prompts.

    Parameters
    ----------
    value : object
        What the JSON file holds.
    source : str
        Its name, for messages.

    Returns
    -------
    PromptSet
        For each image that has objects a box for each of them, in the file's order, by
        the image's file name, with the size that the file says it has. Groups
        (``iscrowd``) are left out.

    Raises
    ------
    PromptError
        If it is not such a file, an object has no box, or two images have one name or
        number.
    """
    contents = _contents(value, source, PromptError)
    places: dict[tuple[tuple[str, ...], Any], Any] = {}
    for number, image in contents.images.items():
        place = name_parts(image.name), image.frame
        if places.setdefault(place, number) != number:
            raise PromptError(
                f'{contents.source} has two images of the name {excerpt(image.name)}; '
                'rename one of them.'
            )
    # Frames of one stack may be named in several notations.
    names: dict[tuple[str, ...], str] = {}
    found: dict[str, list[ObjectPrompt]] = {}
    for item in contents.annotations:
        image = contents.images[item['image_id']]
        name = names.setdefault(name_parts(image.name), image.name)
        found.setdefault(name, []).append(_prompt(contents.where(item), item, image))
    if not found:
        raise PromptError(f'{contents.source} has no objects; annotate some first.')
    objects = {name: tuple(items) for name, items in found.items()}
    return PromptSet((), objects, contents.source)


def _prompt(where: str, item: Mapping[str, Any], image: _Image) -> ObjectPrompt:
    try:
        x, y, width, height = (float(edge) for edge in item['bbox'])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PromptError(f'{where} has no box [x, y, width, height].') from error
    if not (width > 0 and height > 0):
        raise PromptError(f'{where} has an empty box; remove it or draw it again.')
    try:
        prompt = Prompt(box=(y, x, y + height, x + width), image_shape=image.shape)
        return ObjectPrompt(prompt, image.frame)
    except PromptError as error:
        raise PromptError(f'{where}: {error}') from error


def read_coco_masks(path: str | os.PathLike[str]) -> Iterator[LabelledImage]:
    """Read the masks of a COCO file, image by image.

    Parameters
    ----------
    path : path-like
        The JSON file, with masks as RLE or polygons.

    Yields
    ------
    LabelledImage
        Objects have the value that `write_coco` noted, or else 1, 2, ... in the file's
        order; where they overlap the earlier one keeps the pixels. Images without
        objects come too. Groups (``iscrowd``) are left out, and so are polygons of
        fewer than three points, which have no area; `LabelledImage.notes` names them.

    Raises
    ------
    ImageError
        If it is not such a file, or a mask does not fit its image.
    MissingExtraError
        If pycocotools is not installed.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding='utf-8-sig'))
    except OSError as error:
        reason = error.strerror or 'unknown reason'
        raise ImageError(f'{path.name} cannot be read ({reason}).') from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f'{path.name} is not a JSON file; export it again.') from error
    contents = _contents(value, path.name, ImageError)
    mask = _pycocotools()
    objects: dict[Any, list[Mapping[str, Any]]] = {}
    for item in contents.annotations:
        objects.setdefault(item['image_id'], []).append(item)
    for number, image in contents.images.items():
        yield _labelled(contents, mask, image, objects.get(number, []))


def _labelled(
    contents: _Contents,
    mask: Any,
    image: _Image,
    objects: Sequence[Mapping[str, Any]],
) -> LabelledImage:
    shape = image.shape
    if shape is None:
        raise ImageError(
            f'{contents.source} does not say the size of {excerpt(image.name)}; export '
            'it again.'
        )
    check_size(excerpt(image.name), shape)
    values = _noted_labels(objects) or range(1, len(objects) + 1)
    labels = np.zeros(shape, label_dtype(max(values, default=0)))
    classes, notes = {}, []
    for value, item in zip(values, objects, strict=True):
        pixels, lines = _decoded(mask, item, shape, contents.where(item))
        if lines:
            notes.append(f'{contents.where(item)}: {lines} lines without area left out')
        add_object(labels, value, pixels)
        classes[value] = contents.categories.get(item.get('category_id'), _NO_CLASS)
    return LabelledImage(image.name, labels, classes, image.frame, tuple(notes))


def _noted_labels(objects: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """The values that `write_coco` noted, if each object has one of its own."""
    noted = [item.get('label') for item in objects]
    values = [
        value
        for value in noted
        if isinstance(value, int)
        and not isinstance(value, bool)
        and 0 < value <= _MOST_LABEL
    ]
    return values if len(set(values)) == len(noted) else None


def _decoded(
    mask: Any, item: Mapping[str, Any], shape: tuple[int, int], where: str
) -> tuple[NDArray[np.bool_], int]:
    """The (rows, columns) bool mask of an object, and how many lines were left out."""
    form = item.get('segmentation')
    try:
        if isinstance(form, Mapping):
            if tuple(form['size']) != shape:
                raise ImageError(f'{where} has a mask of another size than its image.')
            return _filled(form['counts'], shape, where), 0
        polygons = [np.asarray(polygon, np.float64) for polygon in form or ()]
        areas = [item for item in polygons if item.size >= 2 * _LEAST_CORNERS]
        reach = _FARTHEST * max(shape)
        if not polygons or not all(
            # Its C code makes room for all pixels of an edge, wherever they are.
            polygon.ndim == 1
            and polygon.size % 2 == 0
            and (abs(polygon) <= reach).all()
            for polygon in polygons
        ):
            raise ValueError('not polygons')
        if not areas:
            return np.zeros(shape, np.bool_), len(polygons)
        packed = mask.merge(mask.frPyObjects([list(p) for p in areas], *shape))
        pixels = np.asarray(mask.decode(packed), np.bool_)
        return pixels, len(polygons) - len(areas)
    except KDSAMError:
        raise
    except Exception as error:
        # pycocotools raises whatever its C code comes upon.
        raise ImageError(
            f'{where} has no mask that can be read; export it again.'
        ) from error


def _filled(counts: Any, shape: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Pixels of runs down the columns, by turns outside and inside the object.

    pycocotools does not check that the runs fill the image, and gives memory that
    nobody has written to for the rest.
    """
    runs = _unpacked(counts.encode()) if isinstance(counts, str) else list(counts)
    if not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError('not runs')
    rows, columns = shape
    if sum(runs) != rows * columns:
        raise ImageError(
            f'{where} has a mask whose runs add up to {quoted(sum(runs))} pixels, but '
            f'the image has {rows} x {columns} = {rows * columns}; export it again.'
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(columns, rows).T


def _unpacked(text: bytes) -> list[int]:
    """Runs of the compressed form: five bits in a letter, and differences from the third on."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError('not a letter of RLE')
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError('cut off')
    return runs
