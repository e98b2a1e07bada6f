"""Every parser of files of users, and small valid files that each is to be tried with.

Packages are imported where they are needed: each parser runs in a process of its own.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_kdsam.core.errors import KDSAMError

_PROMPTS = {
    'format': 1,
    'images': {
        'a.png': {
            'objects': [
                {'points': [[1, 2], [3, 4]], 'labels': [1, 0], 'frame': 1},
                {'box': [0, 0, 3, 4]},
            ]
        }
    },
}
_COCO = {
    'images': [{'id': 1, 'file_name': 'a.png', 'height': 6, 'width': 8, 'frame': 0}],
    'annotations': [
        {
            'id': number,
            'image_id': 1,
            'category_id': 1,
            'bbox': [1, 2, 3, 4],
            'label': 2,
            'segmentation': segmentation,
        }
        for number, segmentation in enumerate(
            (
                [[1, 1, 5, 1, 5, 4]],
                {'size': [6, 8], 'counts': [6, 3, 39]},
                {'size': [6, 8], 'counts': '63W1'},
            )
        )
    ],
    'categories': [{'id': 1, 'name': 'polyp'}],
}
_TABLE = 'image,frame,object,row,column,label\na.png,0,1,10,20,1\na.png,1,2,3,4,\n'
_MANIFEST = (
    'image,frame,status,reason,objects,score,pixels,names,labels\n'
    'a.png,0,done,,1,0.9000,12,polyp,a_labels.png\n'
    'b.png,0,failed,"It is damaged, or not.",0,,0,,\n'
)
_RECORDS = (
    {'fingerprint': 'a', 'objects': [[1, 0.5, 9, 'polyp']], 'reason': ''},
    {
        'fingerprint': 'a',
        'frames': [{'status': 'done', 'reason': '', 'objects': [[1, 0.5, 9]]}],
    },
)
# A frame that is read in the middle of a long stack is as good as all of them.
_FRAMES_TRIED = 5
PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
STACK = np.random.default_rng(1).integers(0, 255, (5, 12, 16), np.uint8)


@dataclass(frozen=True)
class Parser:
    """A parser and what it is given.

    Attributes
    ----------
    parse : callable
        Takes the path of a file or folder.
    seeds : callable
        Writes valid files into an empty folder; they are damaged one at a time, of
        folders a file in them.
    packed : callable
        Makes the file of what is damaged, where damage would else only meet a check sum
        or a decompressor.
    needs : tuple of str
        Packages without which there is nothing to try.
    inputs : int
        How many of them a test tries, few of those that take long.
    """

    parse: Callable[[Path], Any]
    seeds: Callable[[Path], Any]
    packed: Callable[[bytes], bytes] = bytes
    needs: tuple[str, ...] = ()
    inputs: int = 150


def _text(name: str, *contents: Any) -> Callable[[Path], None]:
    """Write texts, or what is to be JSON, to files."""

    def seeds(folder: Path) -> None:
        for number, content in enumerate(contents):
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f'{number}{name}').write_text(text, encoding='utf-8')

    return seeds


def _prompts(path: Path) -> None:
    from napari_kdsam.io.prompts import read_prompts

    found = read_prompts(path)
    for prompt in found.assigned(['x/a.png', 'y/b.png']).for_image('x/a.png'):
        prompt.to_dict()


def _masks(path: Path) -> None:
    from napari_kdsam.io.coco import read_coco_masks

    list(read_coco_masks(path))


def _session(path: Path) -> None:
    from napari_kdsam.annotation.session_file import read_session

    read_session(path).labels()


def _sessions(folder: Path) -> None:
    from annotation_scripts import SHAPE

    from napari_kdsam.annotation.session_file import SavedSession, write_session
    from napari_kdsam.annotation.state import AnnotationState

    write_session(folder / 's.json', SavedSession('d', SHAPE, AnnotationState()))


def _records(path: Path) -> None:
    from napari_kdsam.batch.records import Record, StackRecord

    Record.from_json(path.read_bytes())
    StackRecord.from_json(path.read_bytes())


def _earlier_results(path: Path) -> None:
    """What a batch asks of the files that it finds in its output folder."""
    from napari_kdsam.batch.label_files import is_own, read_labels, read_record

    is_own(path)
    if path.suffix == '.png':
        read_record(path)
        read_labels(path)


def _results(folder: Path) -> None:
    from napari_kdsam.batch.label_files import write_frame
    from napari_kdsam.batch.records import Record
    from napari_kdsam.io.label_images import write_labels

    labels = PIXELS[..., 0] // 100
    write_frame(folder / 'a.png', labels, Record(fingerprint='a'))
    write_labels(folder / 'b.tif', labels, 'batch')
    _text('.json', _RECORDS[1], {'result': {'versions': {}}})(folder)


def _manifest(path: Path) -> None:
    from napari_kdsam.batch.manifest import labels_of_images, write_manifest

    labels_of_images(path)
    write_manifest(path, [], {})


def _images(path: Path) -> None:
    """Read frames, and go on with them as an image and as a reference."""
    from napari_kdsam.core.intensity import IntensityMapping, to_model_pixels
    from napari_kdsam.io.formats import open_image
    from napari_kdsam.io.label_images import labels_of_mask

    with open_image(path) as image:
        last = image.frame_count - 1
        tried = {*range(_FRAMES_TRIED), last // 2, last}
        for index in sorted(number for number in tried if number <= last):
            pixels = image.frame(index)
            assert (pixels.shape, pixels.dtype) == (image.frame_shape, image.dtype)
            to_model_pixels(pixels, IntensityMapping().resolve(pixels), 64)
            with suppress(KDSAMError):
                labels_of_mask(image.name, pixels)


def _pictures(kind: str) -> Callable[[Path], None]:
    def seeds(folder: Path) -> None:
        from PIL import Image

        picture = Image.fromarray(PIXELS)
        grey = picture.convert('L')
        more: dict[str, list[tuple[Image.Image, dict[str, Any]]]] = {
            'png': [
                (picture.convert('P'), {'transparency': 3}),
                (picture.convert('LA'), {}),
                (Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 9), {}),
            ],
            'jpg': [(picture.convert('CMYK'), {}), (grey, {'progressive': True})],
            'tif': [
                (picture, {'compression': 'tiff_lzw'}),
                (picture, {'compression': 'jpeg'}),
                (picture.convert('CMYK'), {'compression': 'tiff_deflate'}),
                (grey.convert('1'), {'compression': 'group4'}),
            ],
            'bmp': [(grey, {}), (grey.convert('1'), {})],
            'gif': [(grey, {'save_all': True, 'append_images': [grey.rotate(90)]})],
            'webp': [
                (picture, {'lossless': True}),
                (picture, {'save_all': True, 'append_images': [picture.rotate(90)]}),
            ],
        }
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = {} if kind in ('bmp', 'gif') else {'exif': exif}
        for number, (one, options) in enumerate([(picture, turned), *more[kind]]):
            one.save(folder / f'{number}.{kind}', **options)

    return seeds


def _tiffs(folder: Path) -> None:
    import tifffile

    _pictures('tif')(folder)
    tifffile.imwrite(
        folder / 'imagej.tif', STACK, imagej=True, metadata={'axes': 'TYX'}
    )
    tifffile.imwrite(folder / 'ome.ome.tif', STACK, metadata={'axes': 'ZYX'})
    planes = np.moveaxis(PIXELS, -1, 0)
    tifffile.imwrite(folder / 'tiles.tif', planes, photometric='rgb', tile=(16, 16))
    tifffile.imwrite(folder / 'big.tif', STACK, bigtiff=True, photometric='miniswhite')


def _arrays(folder: Path) -> None:
    np.save(folder / 'a.npy', PIXELS)
    np.save(folder / 'b.npy', PIXELS[..., 0].astype('>f4'))


def _whole_png(content: bytes) -> bytes:
    """Correct the check sums, which else are all that a damaged PNG meets."""
    if not content.startswith(b'\x89PNG'):
        return content
    made, place = bytearray(content), 8
    while place + 12 <= len(made):
        end = place + 8 + int.from_bytes(made[place : place + 4], 'big')
        made[end : end + 4] = zlib.crc32(made[place + 4 : end]).to_bytes(4, 'big')
        place = end + 4
    return bytes(made)


def _dicoms(folder: Path) -> None:
    """One frame in the forms in which its pixels and values are kept."""
    from dicom_files import dataset_of, item, region
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        JPEGLSLossless,
        RLELossless,
    )

    grey = PIXELS[..., 0].astype(np.uint16)
    table = item(LUTDescriptor=[4, 0, 8], LUTData=bytes(range(8)))
    made = {
        'window': dataset_of(
            grey,
            WindowCenter=99,
            WindowWidth=50,
            RescaleSlope=2,
            PixelSpacing=[1, 2],
        ),
        'table': dataset_of(
            grey, VOILUTSequence=[table], PhotometricInterpretation='MONOCHROME1'
        ),
        'regions': dataset_of(PIXELS, SequenceOfUltrasoundRegions=[region()]),
        'halved': dataset_of(
            PIXELS, PhotometricInterpretation='YBR_FULL_422', PixelData=bytes(12 * 32)
        ),
        'bits': dataset_of(PIXELS[..., 0], BitsAllocated=1, BitsStored=1, HighBit=0),
        'palette': dataset_of(
            PIXELS[..., 0] % 4,
            PhotometricInterpretation='PALETTE COLOR',
            **{
                f'{color}PaletteColorLookupTable{part}': value
                for color in ('Red', 'Green', 'Blue')
                for part, value in (('Descriptor', [4, 0, 16]), ('Data', bytes(8)))
            },
        ),
    }
    for name, dataset in made.items():
        dataset.save_as(folder / f'{name}.dcm', enforce_file_format=True)
    encoded = io.BytesIO()
    from PIL import Image

    Image.fromarray(PIXELS).save(encoded, 'jpeg')
    packed = dataset_of(PIXELS, PhotometricInterpretation='YBR_FULL_422')
    packed.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    packed.PixelData = encapsulate([encoded.getvalue()])
    packed.save_as(folder / 'jpeg.dcm', enforce_file_format=True)
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        # JPEG 2000 halves its pictures several times.
        packed = dataset_of(np.tile(grey, (6, 4)))
        packed.compress(syntax)
        packed.save_as(folder / f'{syntax}.dcm', enforce_file_format=True)
    bare = made['regions']
    bare.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    del bare.file_meta
    bare.save_as(folder / 'bare', implicit_vr=True, little_endian=True)
    big = dataset_of(grey.byteswap())
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big['PixelData'].VR = 'OW'
    big.save_as(folder / 'big.dcm', enforce_file_format=True)


def _dicom_stacks(folder: Path) -> None:
    """Several frames: plain, with attributes of their own, compressed, and a film."""
    from dicom_files import dataset_of, item
    from pydicom.encaps import encapsulate
    from pydicom.uid import MPEG4HP41, JPEGBaseline8Bit, RLELossless

    groups = [
        item(
            FrameVOILUTSequence=[item(WindowCenter=9 + number, WindowWidth=20)],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 2])],
        )
        for number in range(len(STACK))
    ]
    enhanced = dataset_of(
        STACK.astype(np.uint16), frames=5, PerFrameFunctionalGroupsSequence=groups
    )
    enhanced.save_as(folder / 'enhanced.dcm', enforce_file_format=True)
    colors = dataset_of(np.stack([PIXELS] * 3), frames=3)
    colors.save_as(folder / 'colors.dcm', enforce_file_format=True)
    colors.compress(RLELossless)
    colors.save_as(folder / 'rle.dcm', enforce_file_format=True)
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(PIXELS).save(encoded, 'jpeg')
    film = io.BytesIO()
    _film(film, 'mpeg4', 'mp4')
    for name, syntax, parts in (
        ('jpeg', JPEGBaseline8Bit, [encoded.getvalue()] * 3),
        ('film', MPEG4HP41, [film.getvalue() + b'\0' * (len(film.getvalue()) % 2)]),
    ):
        packed = dataset_of(PIXELS, PhotometricInterpretation='YBR_FULL_422')
        packed.NumberOfFrames = 3
        packed.file_meta.TransferSyntaxUID = syntax
        packed.PixelData = encapsulate(parts, has_bot=name == 'jpeg')
        packed['PixelData'].VR = 'OB'
        packed['PixelData'].is_undefined_length = True
        packed.save_as(folder / f'{name}.dcm', enforce_file_format=True)


def _deflated_dicoms(folder: Path) -> None:
    """Files that say that they are deflated, and are so once they are packed."""
    from dicom_files import dataset_of
    from pydicom import dcmwrite
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    path = folder / 'a.dcm'
    dataset = dataset_of(STACK, frames=5)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)
    content, start = path.read_bytes(), _start_of_data_set(path.read_bytes())
    path.write_bytes(content[:start] + zlib.decompress(content[start:], -15))


def _start_of_data_set(content: bytes) -> int:
    return 144 + int.from_bytes(content[140:144], 'little')


def _deflated(content: bytes) -> bytes:
    start = _start_of_data_set(content)
    packer = zlib.compressobj(wbits=-15)
    return content[:start] + packer.compress(content[start:]) + packer.flush()


def _labelled_dicoms(folder: Path) -> None:
    """DICOM images with what the standard asks of them."""
    from dicom_files import dataset_of
    from pydicom.uid import generate_uid

    for frames in (1, len(STACK)):
        pixels = STACK if frames > 1 else STACK[0]
        dataset = dataset_of(pixels, frames=frames, PixelSpacing=[0.5, 0.5])
        dataset.StudyInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = generate_uid()
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyDate, dataset.StudyTime = '20200101', '120000'
        dataset.StudyID, dataset.Modality = '1', 'US'
        if frames == 1:
            dataset.FrameOfReferenceUID = generate_uid()
            dataset.ImagePositionPatient = [0, 0, 0]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.SliceThickness = 1
        dataset.save_as(folder / f'{frames}.dcm', enforce_file_format=True)


def _segmentations(folder: Path) -> None:
    from napari_kdsam.io.dicom_seg_writer import write_dicom_seg

    sources = folder / 'sources'
    sources.mkdir()
    _labelled_dicoms(sources)
    for source in sources.iterdir():
        labels = STACK[: int(source.stem)] // 100
        write_dicom_seg(folder / source.name, labels, source)
    shutil.rmtree(sources)


def _segmentation(path: Path) -> None:
    from napari_kdsam.io.dicom_seg import read_dicom_seg

    _each(_images, read_dicom_seg)(path)


def _as_dicom_source(path: Path) -> None:
    from napari_kdsam.io.dicom_seg_writer import write_dicom_seg

    labels = STACK[: int(path.stem)] // 100
    write_dicom_seg(path.parent.with_name('out.dcm'), labels, path)


def _niftis(folder: Path) -> None:
    import nibabel

    volume = STACK.T
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        nibabel.save(
            kind(volume.astype(np.int16), np.diag([1, 2, 3, 1])),
            folder / f'{kind.__name__}.nii',
        )
    scaled = nibabel.Nifti1Image(volume[..., None].astype(np.float64), None)
    scaled.set_data_dtype(np.uint8)
    nibabel.save(scaled, folder / 'scaled.nii')
    colors = np.ascontiguousarray(PIXELS.transpose(1, 0, 2)[:, :, None])
    rgb = colors.view([('R', 'u1'), ('G', 'u1'), ('B', 'u1')])[..., 0]
    nibabel.save(nibabel.Nifti1Image(rgb, None), folder / 'rgb.nii')


def _packed_niftis(folder: Path) -> None:
    _niftis(folder)
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix('.nii.gz'))


def _as_nifti_source(path: Path) -> None:
    from napari_kdsam.io.nifti import write_nifti_labels

    labels = STACK[:1] if 'rgb' in path.name else STACK
    write_nifti_labels(path.parent.with_name('out.nii'), labels, path)


def _film(file: Any, codec: str, form: str, pixels: str = 'yuv420p') -> None:
    import av

    with av.open(file, 'w', format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, pixels
        for number in range(4):
            picture = np.full((16, 32, 3), 40 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _videos(folder: Path) -> None:
    _film(str(folder / 'a.mp4'), 'libx264', 'mp4')
    _film(str(folder / 'b.mov'), 'mjpeg', 'mov', 'yuvj420p')
    _film(str(folder / 'c.avi'), 'mpeg4', 'avi')
    _film(str(folder / 'd.mkv'), 'ffv1', 'matroska', 'gray')


def _zarrs(folder: Path) -> None:
    import zarr

    for version, name in ((2, 'a.zarr'), (3, 'b.zarr')):
        group = zarr.open_group(folder / name, mode='w', zarr_format=version)
        group.create_array('0', data=STACK, chunks=(1, 12, 16))
        level = {
            'path': '0',
            'coordinateTransformations': [{'type': 'scale', 'scale': [1, 0.5, 0.5]}],
        }
        axes = [{'name': axis, 'type': 'space', 'unit': 'micrometer'} for axis in 'zyx']
        shown = [{'axes': axes, 'datasets': [level]}]
        if version == 2:
            group.attrs['multiscales'] = [{**shown[0], 'version': '0.4'}]
        else:
            group.attrs['ome'] = {'version': '0.5', 'multiscales': shown}
    zarr.create_array(
        folder / 'c.zarr', data=STACK, chunks=(1, 6, 8), shards=(1, 12, 16)
    )
    zarr.create_array(folder / 'd.zarr', data=PIXELS, zarr_format=2)


def _embeddings(folder: Path) -> None:
    from napari_kdsam.core.sizes import EMBEDDING_SHAPE
    from napari_kdsam.inference.embedding_store import EmbeddingStore

    EmbeddingStore(folder / 'store').put('key', np.zeros(EMBEDDING_SHAPE))


def _store(path: Path) -> None:
    from napari_kdsam.inference.embedding_store import EmbeddingStore, holds_embeddings

    holds_embeddings(path)
    # Whatever is found damaged, the store takes away.
    copy = path.parent.with_name('copy')
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    EmbeddingStore(copy).get('key')


def _pth(folder: Path) -> None:
    import torch

    tensors = {'a.weight': torch.zeros(2, 3), 'b': torch.ones(4, dtype=torch.float16)}
    torch.save(tensors, folder / 'a.pth')
    torch.save(tensors, folder / 'b.pth', _use_new_zipfile_serialization=False)


def _official(path: Path) -> None:
    from napari_kdsam.model.sam import read_official_tensors

    read_official_tensors(path)


def _safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    from napari_kdsam.model.proposal_head import ARCHITECTURE, HEAD_KEY

    network = {'format': 1, 'input_size': 512, 'architecture': 'resnet50-v1-fpn-p3'}
    head = {'format': 1, 'architecture': ARCHITECTURE, 'encoder': 'a', 'classes': ['b']}
    headers = {'kdsam': json.dumps(network), HEAD_KEY: json.dumps(head)}
    tensors = {'a': np.zeros((2, 3), np.float32)}
    save_file(tensors, folder / 'a.safetensors', headers)


def _checkpoint(path: Path) -> None:
    from napari_kdsam.model.checkpoint import read_metadata, read_tensors
    from napari_kdsam.model.proposal_head import read_proposal_metadata

    _each(read_tensors, read_metadata, read_proposal_metadata)(path)


def _each(*parsers: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Give a file to several parsers, whether or not some refuse it."""

    def parse(path: Path) -> None:
        refused = []
        for parser in parsers:
            try:
                parser(path)
            except KDSAMError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    return parse


def _encoders(folder: Path) -> None:
    from weights_files import write_onnx_encoder

    write_onnx_encoder(folder)


def _by_onnxruntime(path: Path) -> None:
    from napari_kdsam.model.onnx import OnnxEncoder

    OnnxEncoder(path)


def _by_openvino(path: Path) -> None:
    import sys

    # As where only OpenVINO is installed.
    sys.modules['onnxruntime'] = None  # type: ignore[assignment]
    from napari_kdsam.model.onnx import OnnxEncoder

    OnnxEncoder(path)


def _configuration(path: Path) -> None:
    from napari_kdsam.training.config_file import read_config

    read_config(path)


def _configurations(folder: Path) -> None:
    from napari_kdsam.training.config_file import CONFIG_FOLDER

    shutil.copy(CONFIG_FOLDER / 'cpu.yaml', folder)


PARSERS: dict[str, Parser] = {
    'prompts: JSON': Parser(
        _prompts, _text('.json', _PROMPTS, _PROMPTS['images']['a.png'] | {'format': 1})
    ),
    'prompts: CSV': Parser(_prompts, _text('.csv', _TABLE)),
    'COCO: boxes': Parser(_prompts, _text('.json', _COCO)),
    'COCO: masks': Parser(_masks, _text('.json', _COCO), needs=('pycocotools',)),
    'session': Parser(_session, _sessions),
    'records of a batch': Parser(_records, _text('.json', *_RECORDS)),
    'earlier results': Parser(_earlier_results, _results, _whole_png),
    'manifest': Parser(_manifest, _text('.csv', _MANIFEST)),
    'configuration: YAML': Parser(_configuration, _configurations, needs=('yaml',)),
    'weights: .pth': Parser(_official, _pth),
    'weights: safetensors': Parser(_checkpoint, _safetensors),
    'weights: ONNX Runtime': Parser(
        _by_onnxruntime, _encoders, needs=('onnx', 'onnxruntime')
    ),
    'weights: OpenVINO': Parser(_by_openvino, _encoders, needs=('onnx', 'openvino')),
    'embedding store': Parser(_store, _embeddings, needs=('zarr',)),
    'PNG': Parser(_images, _pictures('png'), _whole_png),
    'JPEG': Parser(_images, _pictures('jpg')),
    'TIFF': Parser(_images, _tiffs),
    'BMP': Parser(_images, _pictures('bmp')),
    'GIF': Parser(_images, _pictures('gif')),
    'WebP': Parser(_images, _pictures('webp')),
    'NPY': Parser(_images, _arrays),
    'DICOM': Parser(_images, _dicoms, needs=('pydicom',)),
    'DICOM: frames': Parser(_images, _dicom_stacks, needs=('pydicom', 'av'), inputs=50),
    'DICOM: deflated': Parser(_images, _deflated_dicoms, _deflated, needs=('pydicom',)),
    'DICOM-SEG': Parser(_segmentation, _segmentations, needs=('highdicom',), inputs=20),
    'DICOM-SEG: its image': Parser(
        _as_dicom_source, _labelled_dicoms, needs=('highdicom',), inputs=20
    ),
    'NIfTI': Parser(_images, _niftis, needs=('nibabel',)),
    'NIfTI: .nii.gz': Parser(
        _images, _packed_niftis, lambda content: gzip.compress(content, 1), ('nibabel',)
    ),
    'NIfTI: its image': Parser(_as_nifti_source, _niftis, needs=('nibabel',)),
    'video': Parser(_images, _videos, needs=('av',)),
    'OME-Zarr': Parser(_images, _zarrs, needs=('zarr',), inputs=50),
}
