"""ONNX Runtime and OpenVINO, told before their import that nothing is to be sent.

Both report to their makers unless told otherwise. This is the only module that may
import them.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime without its telemetry.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    # Read by the library when it starts; its own switch comes after its first event.
    os.environ['ORT_DISABLE_TELEMETRY'] = '1'
    import onnxruntime

    if hasattr(onnxruntime, 'disable_telemetry_events'):
        # For the case that another plugin imported it earlier.
        onnxruntime.disable_telemetry_events()
    module: ModuleType = onnxruntime
    return module


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    # Without this package, which it need not have, OpenVINO sends nothing.
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    import openvino

    module: ModuleType = openvino
    return module
