"""Check the types of the whole package, `napari_kdsam.training` included.

Training lives in a folder of its own and joins the package when that is installed, in
a way type checkers can't follow. So mypy is shown a folder of links laid out like the
installed package, and its messages get the real names back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYOUT = Path('build', 'typecheck')


def lay_out() -> None:
    """Link the package and its training part into `LAYOUT`."""
    shutil.rmtree(ROOT / LAYOUT, ignore_errors=True)
    package = ROOT / LAYOUT / 'napari_kdsam'
    package.mkdir(parents=True)
    for source in (ROOT / 'src' / 'napari_kdsam').iterdir():
        if source.name not in ('__pycache__', 'training'):
            (package / source.name).symlink_to(source, source.is_dir())
    (package / 'training').symlink_to(ROOT / 'training', target_is_directory=True)


def main() -> int:
    """Run mypy; its exit status is ours."""
    lay_out()
    found = subprocess.run(
        [sys.executable, '-m', 'mypy', '-p', 'napari_kdsam', *sys.argv[1:]],
        cwd=ROOT,
        env={**os.environ, 'MYPYPATH': str(LAYOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    linked = str(LAYOUT / 'napari_kdsam')
    output = found.stdout.replace(str(Path(linked, 'training')), 'training')
    print(output.replace(linked, str(Path('src', 'napari_kdsam'))), end='')
    print(found.stderr, end='', file=sys.stderr)
    return found.returncode


if __name__ == '__main__':
    raise SystemExit(main())
