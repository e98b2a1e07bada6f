"""A folder of links laid out as the package is once it is installed.

Training lives in a folder of its own and joins the package when that is installed, in
a way that tools which read the source can't follow.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lay_out(folder: Path) -> Path:
    """Link the package and its training part into a new folder.

    Parameters
    ----------
    folder : pathlib.Path
        Relative to the root of the repository; what was there is deleted.

    Returns
    -------
    pathlib.Path
        The package's folder in it, also relative.
    """
    shutil.rmtree(ROOT / folder, ignore_errors=True)
    package = folder / 'napari_kdsam'
    (ROOT / package).mkdir(parents=True)
    for source in (ROOT / 'src' / 'napari_kdsam').iterdir():
        if source.name not in ('__pycache__', 'training'):
            (ROOT / package / source.name).symlink_to(source, source.is_dir())
    (ROOT / package / 'training').symlink_to(ROOT / 'training', True)
    return package
