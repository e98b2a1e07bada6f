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
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import (
    ImageError,
    KDSAMError,
    MissingExtraError,
    PromptError,
)
from napari_kdsam.core.files import MARK, write_json
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.core.prompts import ObjectPrompt, Prompt, PromptSet
from napari_kdsam.io.label_images import check_labels
from napari_kdsam.io.limits import check_size

_NO_CLASS = 'object'
# Far below a pixel, far above rounding: drops only points on straight lines.
_STRAIGHT = 1e-6


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
    """

    name: str
    labels: NDArray[Any]
    classes: Mapping[int, str] = field(default_factory=dict)
    frame: int | None = None


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
    from scipy import ndimage
    from skimage.measure import approximate_polygon, find_contours

    parts, _ = ndimage.label(mask)
    found = []
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        alone = np.pad(parts[place] == number, 1).astype(np.float32)
        rings = [
            approximate_polygon(ring, _STRAIGHT)[:-1]
            for ring in find_contours(alone, 0.5, fully_connected='low')
        ]
        rings.sort(key=_area, reverse=True)
        outline = rings[0]
        for hole in rings[1:]:
            outline = _joined(outline, hole)
        # Of the padding, and from pixel centres to corners.
        corner = np.array([edge.start for edge in place]) - 0.5
        found.append((outline + corner)[:, ::-1].ravel().tolist())
    return found


def _area(ring: NDArray[np.float64]) -> float:
    y, x = ring.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


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
class _Contents:
    """A COCO file after its structure has been checked."""

    source: str
    images: dict[Any, Mapping[str, Any]]
    annotations: list[Mapping[str, Any]]
    categories: dict[Any, str]


def _contents(value: Any, source: str, error_class: type[KDSAMError]) -> _Contents:
    try:
        images = {image['id']: image for image in value['images']}
        for image in images.values():
            image['file_name'].strip()
        categories = {
            item['id']: str(item['name']) for item in value.get('categories', [])
        }
        annotations = [item for item in value['annotations'] if not item.get('iscrowd')]
        for item in annotations:
            images[item['image_id']]['id'], item['id']
    except (AttributeError, KeyError, TypeError) as error:
        raise error_class(
            f'{source} is not a COCO file of objects, or an object has no image '
            f'({type(error).__name__}: {error}); export it again.'
        ) from error
    return _Contents(source, images, annotations, categories)


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
        the image's file name without folder. Groups (``iscrowd``) are left out.

    Raises
    ------
    PromptError
        If it is not such a file, an object has no box, or two images have one name.
    """
    contents = _contents(value, source, PromptError)
    places: dict[tuple[str, Any], Any] = {}
    for number, image in contents.images.items():
        name = _base_name(image)
        if places.setdefault((name, image.get('frame')), number) != number:
            raise PromptError(
                f'{contents.source} has two images of the name {name}; rename one of '
                'them.'
            )
    found: dict[str, tuple[ObjectPrompt, ...]] = {}
    for item in contents.annotations:
        image = contents.images[item['image_id']]
        where = f'{contents.source}, object {item["id"]}'
        prompt = ObjectPrompt(Prompt(box=_box(item, where)))
        if image.get('frame') is not None:
            value = {**prompt.to_dict(), 'frame': image['frame']}
            prompt = ObjectPrompt.from_dict(value)
        name = _base_name(image)
        found[name] = (*found.get(name, ()), prompt)
    if not found:
        raise PromptError(f'{contents.source} has no objects; annotate some first.')
    return PromptSet((), found, contents.source)


def _base_name(image: Mapping[str, Any]) -> str:
    return PurePosixPath(image['file_name'].replace('\\', '/')).name


def _box(item: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(edge) for edge in item['bbox'])
    except (KeyError, TypeError, ValueError) as error:
        raise PromptError(f'{where} has no box [x, y, width, height].') from error
    if not (width > 0 and height > 0):
        raise PromptError(f'{where} has an empty box; remove it or draw it again.')
    return y, x, y + height, x + width


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
        objects come too. Groups (``iscrowd``) are left out.

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
    image: Mapping[str, Any],
    objects: Sequence[Mapping[str, Any]],
) -> LabelledImage:
    name = image['file_name']
    try:
        shape = int(image['height']), int(image['width'])
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(
            f'{contents.source} does not say the size of {name}; export it again.'
        ) from error
    check_size(name, shape)
    noted = [item.get('label') for item in objects]
    values: list[int] = (
        [int(value or 0) for value in noted]
        if len(set(noted)) == len(noted)
        and all(isinstance(value, int) and value > 0 for value in noted)
        else list(range(1, len(objects) + 1))
    )
    labels = np.zeros(shape, label_dtype(max(values, default=0)))
    classes = {}
    for value, item in zip(values, objects, strict=True):
        pixels = _decoded(mask, item, shape, f'{contents.source}, object {item["id"]}')
        labels[pixels & (labels == 0)] = value
        classes[value] = contents.categories.get(item.get('category_id'), _NO_CLASS)
    return LabelledImage(name, labels, classes, image.get('frame'))


def _decoded(
    mask: Any, item: Mapping[str, Any], shape: tuple[int, int], where: str
) -> NDArray[np.bool_]:
    rows, columns = shape
    form = item.get('segmentation')
    try:
        if isinstance(form, Mapping):
            if tuple(form['size']) != shape:
                raise ImageError(f'{where} has a mask of another size than its image.')
            packed = form
            if isinstance(form['counts'], list):
                packed = mask.frPyObjects(dict(form), rows, columns)
        else:
            packed = mask.merge(mask.frPyObjects(form, rows, columns))
        return np.asarray(mask.decode(packed), np.bool_)
    except KDSAMError:
        raise
    except Exception as error:
        # pycocotools raises whatever its C code comes upon.
        raise ImageError(
            f'{where} has no mask that can be read; export it again.'
        ) from error
