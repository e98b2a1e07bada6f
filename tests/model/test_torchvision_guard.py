"""segment_anything imports whatever state torchvision is in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.model.torchvision_guard import (
    non_maximum_suppression,
)

SOURCE = Path(__file__).resolve().parents[2] / 'src'


# torchvision


FAKE_TORCHVISION = {
    '__init__.py': 'from torchvision import _meta, ops\n',
    '_meta.py': (
        'import torch\n'
        "if not hasattr(torch.ops.torchvision, 'nms'):\n"
        "    raise RuntimeError('operator torchvision::nms does not exist')\n"
    ),
    'ops/__init__.py': '',
    'ops/boxes.py': 'def batched_nms(): ...\ndef box_area(): ...\n',
    'transforms/__init__.py': '',
    'transforms/functional.py': 'def resize(): ...\ndef to_pil_image(): ...\n',
}


def run_with_torchvision(folder: Path, files: dict[str, str], code: str) -> str:
    """Run code in a new Python that finds these files as torchvision."""
    for name, text in files.items():
        target = folder / 'torchvision' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    path = os.pathsep.join([str(folder), str(SOURCE)])
    finished = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_segment_anything_imports_where_torchvisions_operators_cannot_load(
    tmp_path: Path,
) -> None:
    code = """
import torch
try:
    import torchvision
except RuntimeError as error:
    assert 'torchvision::nms does not exist' in str(error)
else:
    raise AssertionError('torchvision imports, so nothing is tested')
from napari_kdsam.model.torchvision_guard import import_segment_anything
assert import_segment_anything().SamPredictor
assert import_segment_anything() is import_segment_anything()
boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
kept = torch.ops.torchvision.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
print(kept.tolist())
"""
    out = run_with_torchvision(tmp_path, FAKE_TORCHVISION, code)
    assert out.strip() == '[1, 2]'


def test_other_faults_of_torchvision_are_passed_on_at_once(tmp_path: Path) -> None:
    code = """
from napari_kdsam.model.torchvision_guard import import_segment_anything
try:
    import_segment_anything()
except RuntimeError as error:
    print(error)
"""
    fault = "print('importing')\nraise RuntimeError('the driver is on fire')\n"
    out = run_with_torchvision(tmp_path, {'__init__.py': fault}, code)
    assert out.splitlines() == ['importing', 'the driver is on fire']


def reference_suppression(
    boxes: list[tuple[int, int, int, int]], scores: list[float], threshold: float
) -> list[int]:
    """Non-maximum suppression as its definition reads."""

    def iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        union = sum(areas) - width * height
        return width * height / union if union else 0.0

    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda n: (-scores[n], n)):
        if all(iou(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.integers(0, 20)] * 2,
            *[st.integers(0, 20)] * 2,
            st.sampled_from([0.1, 0.4, 0.5, 0.9]),
        ),
        max_size=12,
    ),
    # No ratio of small whole numbers, so rounding cannot decide.
    st.sampled_from([0.0, 0.31234567, 0.5123456, 0.91234567]),
)
def test_the_stand_in_for_suppression_follows_the_definition(
    items: list[tuple[int, int, int, int, float]], threshold: float
) -> None:
    boxes = [(x, y, x + width, y + height) for x, y, width, height, _ in items]
    scores = [item[4] for item in items]
    kept = non_maximum_suppression(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float64),
        threshold,
    )
    assert kept.dtype == torch.int64
    assert kept.tolist() == reference_suppression(boxes, scores, threshold)


def test_segment_anything_is_whole_after_an_import_that_failed_elsewhere() -> None:
    code = (
        'import contextlib\n'
        'with contextlib.suppress(Exception):\n'
        '    import segment_anything\n'
        'from napari_kdsam.model.torchvision_guard import import_segment_anything\n'
        'print(import_segment_anything().modeling.common.LayerNorm2d.__name__)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == 'LayerNorm2d', done.stderr
