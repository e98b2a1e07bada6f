"""Measure how long a user waits, for KD SAM and for MobileSAM, in the same run.

Each row is measured in a process of its own, so that load time and peak memory are
its own. Run it on an otherwise idle computer.

Usage: python benchmarks/speed.py [--repeats N] [--threads N] [--models FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[1]
SHAPE = (600, 800)
POINT = (280.0, 410.0)
BOX = (150.0, 250.0, 420.0, 600.0)
ROWS = {
    'kdsam': 'KD SAM, default precision',
    'kdsam-float32': 'KD SAM, float32',
    'mobile_sam': 'MobileSAM, encoder in ONNX Runtime, decoder in torch',
    'mobile_sam-onnx': 'MobileSAM, encoder and decoder in ONNX Runtime',
}
_IMPORT = (
    'import sys, time; started = time.perf_counter(); import napari_kdsam; '
    'print(time.perf_counter() - started, "torch" in sys.modules)'
)
Call = Callable[[], Any]


def picture(seed: int) -> NDArray[np.uint8]:
    """Draw an RGB image with one dark ellipse; every seed is another image."""
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    inside = ((rows - POINT[0]) / 130) ** 2 + ((columns - POINT[1]) / 170) ** 2 <= 1
    noise = np.random.default_rng(seed).normal(0, 8, (*SHAPE, 1))
    colours = np.where(inside[..., None], (110, 60, 50), (215, 175, 160))
    return (colours + noise).clip(0, 255).astype(np.uint8)


def milliseconds(call: Call, repeats: int) -> list[float]:
    """Time a call after two calls that do not count."""
    for _ in range(2):
        call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return times


def limit_onnx_threads(threads: int) -> None:
    """Make every ONNX Runtime session of this process use that many threads."""
    import onnxruntime

    plain = onnxruntime.InferenceSession

    def limited(path: str, **options: Any) -> Any:
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = threads
        return plain(path, session, **options)

    onnxruntime.InferenceSession = limited


def onnx_decoder(model: Any, embedding: Any, folder: str) -> tuple[Call, Call]:
    """Export SAM's decoder with segment_anything's own exporter.

    Returns
    -------
    click, box : callable
        From prompt to full-size mask, for one point and for a box.
    """
    import onnxruntime
    import torch

    from napari_kdsam.core.geometry import PaddedSquare
    from napari_kdsam.model.torchvision_guard import import_segment_anything

    import_segment_anything()
    from segment_anything.utils.onnx import SamOnnxModel

    sam = SimpleNamespace(
        image_encoder=SimpleNamespace(img_size=1024),
        prompt_encoder=model.prompt_encoder,
        mask_decoder=model.mask_decoder,
        mask_threshold=0.0,
    )
    example = {
        'image_embeddings': embedding.features,
        'point_coords': torch.zeros(1, 2, 2),
        'point_labels': torch.zeros(1, 2),
        'mask_input': torch.zeros(1, 1, 256, 256),
        'has_mask_input': torch.zeros(1),
        'orig_im_size': torch.tensor(SHAPE, dtype=torch.float32),
    }
    path = Path(folder) / 'decoder.onnx'
    torch.onnx.export(
        SamOnnxModel(sam, return_single_mask=True),
        tuple(example.values()),
        path,
        opset_version=17,
        input_names=list(example),
        output_names=['masks', 'scores', 'logits'],
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    arrays = {name: tensor.cpu().numpy() for name, tensor in example.items()}
    square = PaddedSquare(SHAPE, 1024)
    # SAM's exported decoder marks a missing box with a point labelled -1 and the
    # corners of a box with 2 and 3.
    point = np.concatenate([square.points_to_square([POINT]), np.zeros((1, 2))])
    corners = square.box_to_square(BOX).reshape(2, 2)

    def prompting(places: NDArray[Any], labels: tuple[int, int]) -> Call:
        fed = arrays | {
            'point_coords': places[None].astype(np.float32),
            'point_labels': np.array([labels], np.float32),
        }
        return lambda: session.run(['masks'], fed)[0][0, 0] > 0

    return prompting(point, (1, -1)), prompting(corners, (2, 3))


def measure(row: str, repeats: int, threads: int) -> dict[str, Any]:
    """Measure one row of the table in this process."""
    import torch

    torch.set_num_threads(threads)
    if row.startswith('mobile_sam'):
        limit_onnx_threads(threads)
    from napari_kdsam import Predictor, Prompt, load_model

    name = row.split('-')[0]
    single = name == 'mobile_sam' or row.endswith('float32')
    started = time.perf_counter()
    model = load_model(name, 'cpu', dtype=torch.float32 if single else None)
    loaded = time.perf_counter() - started
    predictor = Predictor(model, cache_bytes=0)
    pictures = iter([picture(seed) for seed in range(repeats + 2)])
    encode = milliseconds(lambda: predictor.embed(next(pictures)), repeats)
    embedding = predictor.embed(picture(0))
    click_prompt, box_prompt = Prompt(points=[POINT]), Prompt(box=BOX)
    click: Call = lambda: predictor.predict(embedding, click_prompt).mask  # noqa: E731
    box: Call = lambda: predictor.predict(embedding, box_prompt).mask  # noqa: E731
    if row.endswith('onnx'):
        agree = [click(), box()]
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            click, box = onnx_decoder(model, embedding, folder)
            for torch_mask, exported in zip(agree, [click, box], strict=True):
                # For a box the exporter takes the best of three, not SAM's one mask.
                if (torch_mask != exported()).mean() > 0.01:
                    raise RuntimeError('the exported decoder gives other masks')
            clicks, boxes = milliseconds(click, repeats), milliseconds(box, repeats)
    else:
        clicks, boxes = milliseconds(click, repeats), milliseconds(box, repeats)
    return {
        'precision': str(model.compute_dtype).removeprefix('torch.'),
        'load': loaded,
        'encode': encode,
        'click': clicks,
        'box': boxes,
        'rss': peak_bytes(),
    }


def peak_bytes() -> int | None:
    """Peak resident memory of this process, where the system tells it."""
    if importlib.util.find_spec('resource') is None:
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == 'darwin' else used * 1024


def shown(times: list[float]) -> str:
    """Median, 95th percentile and, as it hardly depends on other work, the best."""
    median, late = np.median(times), np.percentile(times, 95)
    return f'{median:.0f} / {late:.0f} / {min(times):.0f}'


def table_row(row: str, arguments: argparse.Namespace) -> str:
    """Measure a row in a new process and format it, or say why it was skipped."""
    blank = ' | ' * 4
    if row.startswith('mobile_sam'):
        from napari_kdsam.model.registry import find_model

        entry, lacking = find_model('mobile_sam'), []
        if not entry.available:
            lacking.append(f'{entry.filename} and {entry.companion}')
        packages = ['onnxruntime', *(['onnx'] if row.endswith('onnx') else [])]
        lacking += [name for name in packages if not importlib.util.find_spec(name)]
        if lacking:
            return f'| {ROWS[row]} | skipped: no {", ".join(lacking)} | {blank}|'
    command = [sys.executable, str(Path(__file__).resolve()), '--measure', row]
    command += ['--repeats', str(arguments.repeats)]
    command += ['--threads', str(arguments.threads)]
    limits = {'OMP_NUM_THREADS': str(arguments.threads)}
    finished = subprocess.run(
        command,
        env=os.environ | limits,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        reason = finished.stderr.strip().splitlines()[-1]
        return f'| {ROWS[row]} | failed: {reason} | {blank}|'
    found = json.loads(finished.stdout.splitlines()[-1])
    memory = f'{found["rss"] / 1e6:.0f}' if found['rss'] else 'n/a'
    return (
        f'| {ROWS[row]} | {found["precision"]} | {shown(found["encode"])} | '
        f'{shown(found["click"])} | {shown(found["box"])} | {found["load"]:.1f} | '
        f'{memory} |'
    )


def import_note() -> str:
    """Measure importing the package in new processes."""
    times, torch_too = [], False
    for _ in range(5):
        out = subprocess.run(
            [sys.executable, '-c', _IMPORT], capture_output=True, text=True, check=True
        ).stdout.split()
        times.append(1000 * float(out[0]))
        torch_too |= out[1] == 'True'
    return (
        f'`import napari_kdsam`: {np.median(times):.1f} ms (median of 5 processes), '
        f'torch imported: {"yes" if torch_too else "no"}'
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--repeats', type=int, default=20)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument(
        '--models',
        type=Path,
        help='folder with mobile_sam_encoder.onnx and its decoder '
        '(default: NAPARI_KDSAM_MODELS)',
    )
    parser.add_argument('--measure', choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.models:
        os.environ['NAPARI_KDSAM_MODELS'] = str(arguments.models)
    if arguments.measure:
        found = measure(arguments.measure, arguments.repeats, arguments.threads)
        print(json.dumps(found))
        return
    print(
        '| model | precision | image to embedding, ms | click to mask, ms | '
        'box to mask, ms | load, s | peak memory, MB |'
    )
    print('|---|---|---|---|---|---|---|')
    for row in ROWS:
        print(table_row(row, arguments), flush=True)
    print(
        f'\nMedian / 95th percentile / best of {arguments.repeats}; {arguments.threads} '
        f'threads; image {SHAPE[1]} x {SHAPE[0]}, masks of that size, embedding ready '
        'for clicks and boxes. A click makes three candidates and the mask of the '
        f'best. {platform.machine()}, {os.cpu_count()} cores.'
    )
    print(f'\n- {import_note()}')
    wheels = sorted((REPOSITORY / 'dist').glob('*.whl'))
    for wheel in wheels:
        print(f'- {wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB')
    if not wheels:
        print('- no wheel in dist/')


if __name__ == '__main__':
    main()
