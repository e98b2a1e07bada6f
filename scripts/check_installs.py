"""Build the wheel and the sdist, look into them, and try each way of installing.

Wheel and sdist go, one after the other, into a new virtual environment with the base
dependencies only; the environment that runs this script stands for the editable
install. One line is printed for each check; the exit status is 0 only if all hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = 'napari_kdsam'
# PyPI refuses larger files unless asked, and users wait for smaller ones.
MAX_MEGABYTES = 80
SDIST_FILES = (
    'CHANGELOG.md',
    'LICENSE',
    'NOTICE',
    'README.md',
    'constraints.txt',
    'napari.yaml',
    'pyproject.toml',
    'tests/package/test_package.py',
)


class CheckError(Exception):
    """A check that does not hold."""


def require(condition: object, problem: str) -> None:
    """Raise `CheckError` with `problem` unless `condition` holds."""
    if not condition:
        raise CheckError(problem)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return what it printed; `CheckError` if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr)[-3000:]
        raise CheckError(f'{" ".join(map(str, command))} failed:\n{last}')
    return done.stdout


def report(where: str, check: Callable[..., str], *arguments: object) -> bool:
    """Run one check and print its line."""
    try:
        outcome = check(*arguments)
    except CheckError as problem:
        print(f'FAILED {where}: {problem}', flush=True)
        return False
    print(f'ok     {where}: {outcome}', flush=True)
    return True


# What the archives hold.


def files_of_the_package() -> set[str]:
    """Names, relative to the installed package, of the files it must consist of."""
    folders = {'': ROOT / 'src' / PACKAGE, 'training': ROOT / 'training'}
    return {
        PurePosixPath(prefix, path.relative_to(folder).as_posix()).as_posix()
        for prefix, folder in folders.items()
        for path in folder.rglob('*')
        if path.is_file()
        and '__pycache__' not in path.parts
        and path.suffix not in ('.md', '.part', '.pyc')
    }


def check_size(archive: Path) -> str:
    """Check that an archive is small enough to publish."""
    megabytes = archive.stat().st_size / 1e6
    require(
        megabytes <= MAX_MEGABYTES,
        f'{archive.name} has {megabytes:.1f} MB, more than {MAX_MEGABYTES}',
    )
    return f'{archive.name} has {megabytes:.1f} MB (limit {MAX_MEGABYTES})'


def check_wheel_contents(wheel: Path) -> str:
    """Check that the wheel holds the package, the licence, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith('/')}
    info = '-'.join(wheel.name.split('-')[:2]) + '.dist-info'
    described = {
        f'{info}/{name}'
        for name in (
            'METADATA',
            'RECORD',
            'WHEEL',
            'entry_points.txt',
            'licenses/LICENSE',
            'licenses/NOTICE',
            'top_level.txt',
        )
    }
    expected = {f'{PACKAGE}/{name}' for name in files_of_the_package()} | described
    for needed in (
        '__init__.pyi',
        'napari.yaml',
        'py.typed',
        'training/__init__.py',
    ):
        require(f'{PACKAGE}/{needed}' in expected, f'{needed} is gone from the tree')
    missing, odd = sorted(expected - names), sorted(names - expected)
    require(
        not missing,
        f'not in the wheel: {", ".join(missing)} (see packages and package-data in '
        'pyproject.toml)',
    )
    require(not odd, f'does not belong in the wheel: {", ".join(odd)}')
    weights = [name for name in names if name.endswith('.safetensors')]
    require(weights, 'there are no weights in the wheel')
    return f'{len(names)} files, with the weights, the manifest and the licence'


def check_sdist_contents(sdist: Path) -> str:
    """Check that the sdist holds what building and testing need."""
    with tarfile.open(sdist) as archive:
        names = {
            member.name.partition('/')[2]
            for member in archive.getmembers()
            if not member.isdir()
        }
    expected = set(SDIST_FILES)
    for name in files_of_the_package():
        in_training = name.startswith('training/')
        expected.add(name if in_training else f'src/{PACKAGE}/{name}')
    missing = sorted(expected - names)
    require(not missing, f'not in the sdist: {", ".join(missing)} (see MANIFEST.in)')
    odd = sorted(
        name
        for name in names
        if name.endswith(('.part', '.pyc')) or name.startswith(('.venv', 'demo-'))
    )
    require(not odd, f'does not belong in the sdist: {", ".join(odd)}')
    return f'{len(names)} files, with the tests and the constraints'


# What an installed package must do; these run inside each environment.


def check_light_import(kind: str) -> str:
    """Check that importing the package loads neither torch nor Qt."""
    import napari_kdsam

    heavy = {'torch', 'qtpy', 'napari', 'PyQt5', 'PyQt6', 'PySide6'} & set(sys.modules)
    require(not heavy, f'importing {PACKAGE} imports {", ".join(sorted(heavy))}')
    home = Path(str(napari_kdsam.__file__)).resolve()
    expected = ROOT if kind == 'editable' else Path(sys.prefix).resolve()
    require(home.is_relative_to(expected), f'{PACKAGE} was imported from {home}')
    return f'importing {PACKAGE} imports neither torch nor Qt'


def check_version(kind: str) -> str:
    """Check that the package knows its version."""
    import tomllib
    from importlib.metadata import version

    import napari_kdsam

    with (ROOT / 'pyproject.toml').open('rb') as file:
        declared = tomllib.load(file)['project']['version']
    for found in (napari_kdsam.__version__, version('napari-kdsam')):
        require(found == declared, f'version {found} instead of {declared}')
    return f'version {declared}'


def check_training(kind: str) -> str:
    """Check that training is part of the package and asks for its extra."""
    from napari_kdsam import training
    from napari_kdsam.core.errors import MissingExtraError
    from napari_kdsam.core.extras import require_training_extra

    home = Path(str(training.__file__)).resolve()
    if kind == 'editable':
        require(home.parent == ROOT / 'training', f'training was imported from {home}')
        return 'training is the folder training/'
    command = "pip install 'napari-kdsam[training]'"
    try:
        require_training_extra()
    except MissingExtraError as error:
        require(command in str(error), f'{command} is not in: {error}')
        return 'training imports, and says how to install its extra'
    raise CheckError('training does not say that its extra is missing')


def check_manifest(kind: str) -> str:
    """Check that napari would find the plugin."""
    import npe2

    manager = npe2.PluginManager.instance()
    manager.discover()
    require('napari-kdsam' in manager, 'npe2 does not find the manifest')
    return 'npe2 finds the manifest'


def check_prediction(kind: str) -> str:
    """Check that the bundled weights load and segment a drawn disc."""
    import numpy as np

    from napari_kdsam import Predictor, Prompt, load_model

    rows, columns = np.mgrid[:240, :320]
    disc = (rows - 120) ** 2 + (columns - 150) ** 2 < 60**2
    image = np.where(disc, 200, 60).astype(np.uint8)
    predictor = Predictor(load_model(device='cpu'))
    mask = predictor.predict(predictor.embed(image), Prompt([(120, 150)])).mask
    overlap = (mask & disc).sum() / (mask | disc).sum()
    require(overlap > 0.8, f'one click on a disc gives IoU {overlap:.2f}')
    return f'the bundled weights load; one click on a disc gives IoU {overlap:.2f}'


def check_command(kind: str) -> str:
    """Check that the console script works."""
    name = 'napari-kdsam.exe' if os.name == 'nt' else 'napari-kdsam'
    printed = run(Path(sys.executable).parent / name, 'models')
    require('kdsam' in printed, 'napari-kdsam models does not list kdsam')
    return 'napari-kdsam models lists the models'


# The import check comes first: later ones import torch.
INSIDE = (
    check_light_import,
    check_version,
    check_training,
    check_manifest,
    check_prediction,
    check_command,
)


def check_inside(kind: str) -> bool:
    """Run every check of an installed package in this interpreter."""
    held = [report(kind, check, kind) for check in INSIDE]
    return all(held)


# How the environments come about.


def scratch_folder() -> str | None:
    """Choose memory to work in where there is plenty, else the usual folder.

    Deleting an environment of a gigabyte takes longer than all checks on some disks.
    """
    memory = '/dev/shm'  # noqa: S108 # a folder of its own is made in it
    if sys.platform != 'linux' or 'TMPDIR' in os.environ or not Path(memory).is_dir():
        return None
    plenty = shutil.disk_usage(memory).free > 6e9
    runs_programs = not os.statvfs(memory).f_flag & os.ST_NOEXEC
    return memory if plenty and runs_programs else None


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it."""
    run(sys.executable, '-m', 'build', '--outdir', folder, ROOT)
    (wheel,) = folder.glob('*.whl')
    (sdist,) = folder.glob('*.tar.gz')
    return wheel, sdist


def empty_environment(folder: Path) -> Path:
    """Make a virtual environment with nothing in it and return its interpreter."""
    venv.create(folder, with_pip=False)
    return folder / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def pip(python: Path, *arguments: str | Path) -> str:
    """Run the pip of this environment on another one, which needs none then."""
    command = (sys.executable, '-m', 'pip', '--python', python, *arguments)
    return run(*command, cwd=python.parent)


def check_installing(python: Path, archive: Path) -> str:
    """Install an archive and the base dependencies."""
    constraints = ROOT / 'constraints.txt'
    pip(python, 'install', '--quiet', '--no-compile', '-c', constraints, archive)
    return f'{archive.name} installs'


def check_uninstalling(python: Path) -> str:
    """Uninstall the package and check that nothing of it is left."""
    pip(python, 'uninstall', '--quiet', '--yes', 'napari-kdsam')
    left = list(python.parent.parent.rglob('napari*kdsam*'))
    require(not left, f'uninstalling leaves {", ".join(map(str, left))}')
    return 'uninstalling leaves nothing behind'


def installed_lines(kind: str, python: Path, folder: Path) -> tuple[bool, str]:
    """Run the checks of an installed package with another interpreter."""
    done = subprocess.run(
        # Isolated, and away from the checkout, so that only what is installed counts.
        [python, '-I', Path(__file__).resolve(), '--inside', kind],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout if not done.returncode else done.stdout + done.stderr
    return not done.returncode, printed


def check_archives(wheel: Path, sdist: Path, folder: Path) -> Iterator[bool]:
    """Install the wheel into an empty environment, then the sdist in its place.

    Both need the same dependencies, over a gigabyte of them: unpacking them twice
    would only cost time.
    """
    python = empty_environment(folder / 'environment')
    for kind, archive in (('wheel', wheel), ('sdist', sdist)):
        installed = report(kind, check_installing, python, archive)
        yield installed
        if not installed:
            continue
        held, printed = installed_lines(kind, python, folder)
        print(printed, end='', flush=True)
        yield held
        yield report(kind, check_uninstalling, python)


def outcomes(folder: Path) -> Iterator[bool]:
    """Build and check everything, one outcome at a time."""
    try:
        wheel, sdist = build(folder)
    except CheckError as problem:
        print(f'FAILED build: {problem}')
        yield False
        return
    yield report('wheel', check_size, wheel)
    yield report('sdist', check_size, sdist)
    yield report('wheel', check_wheel_contents, wheel)
    yield report('sdist', check_sdist_contents, sdist)
    with ThreadPoolExecutor(1) as pool:
        here = pool.submit(installed_lines, 'editable', Path(sys.executable), folder)
        yield from check_archives(wheel, sdist, folder)
        held, printed = here.result()
        print(printed, end='', flush=True)
        yield held


def main() -> int:
    """Check everything, or, with --inside, the environment this runs in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--inside', choices=['wheel', 'sdist', 'editable'])
    inside = parser.parse_args().inside
    if inside:
        return 0 if check_inside(inside) else 1
    with tempfile.TemporaryDirectory('-installs', 'kdsam-', scratch_folder()) as folder:
        held = list(outcomes(Path(folder)))
    return 0 if all(held) else 1


if __name__ == '__main__':
    raise SystemExit(main())
