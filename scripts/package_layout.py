"""A copy of the package's source, laid out as it is once it is installed.

Training lives in a folder of its own and joins the package when that is installed, in
a way that tools which read the source can't follow.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lay_out(folder: Path) -> Path:
    """Copy the package and its training part into a new folder.

    Parameters
    ----------
    folder : pathlib.Path
        Relative to the root of the repository; what was there is deleted.

    Returns
    -------
    pathlib.Path
        The package's folder in it, also relative.
    """
    package = folder / 'napari_kdsam'
    shutil.rmtree(ROOT / package, ignore_errors=True)
    left_out = shutil.ignore_patterns('__pycache__', 'training', 'weights')
    shutil.copytree(ROOT / 'src' / 'napari_kdsam', ROOT / package, ignore=left_out)
    shutil.copytree(ROOT / 'training', ROOT / package / 'training', ignore=left_out)
    return package
