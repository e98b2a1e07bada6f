"""The package as a whole: light to import, layered one way, complete and safe."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import napari_kdsam
from napari_kdsam.core.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'src' / 'napari_kdsam'
MANIFEST = PACKAGE / 'napari.yaml'


def modules() -> dict[str, Path]:
    """Every module of the package, by its name within the package."""
    homes = {'': PACKAGE, 'training': ROOT / 'training'}
    found = {}
    for prefix, folder in homes.items():
        for path in sorted(folder.rglob('*.py')):
            parts = path.relative_to(folder).with_suffix('').parts
            names = [prefix, *parts] if prefix else [*parts]
            if names[-1] == '__init__' and len(names) > 1:
                names.pop()
            found['.'.join(names)] = path
    return found


MODULES = modules()


PUBLIC_NAMES = {
    alias.name: f'{node.module}.{alias.name}'
    for node in ast.parse(
        PACKAGE.joinpath('__init__.pyi').read_text(encoding='utf-8')
    ).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


def run_python(code: str) -> str:
    """Run code in a fresh interpreter that has no display."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ('DISPLAY', 'WAYLAND_DISPLAY')
    }
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={**environment, 'QT_QPA_PLATFORM': 'offscreen'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))


def test_importing_the_package_imports_neither_torch_nor_qt_nor_napari() -> None:
    printed = run_python(
        'import json, sys, napari_kdsam; print(json.dumps(list(sys.modules)))'
    )
    loaded = {name.split('.')[0] for name in json.loads(printed)}
    assert 'napari_kdsam' in loaded
    heavy = {'napari', 'qtpy', 'superqt', 'PyQt6', 'torch', 'torchvision'}
    assert not loaded & heavy


def test_every_public_name_exists() -> None:
    assert set(napari_kdsam.__all__) == set(PUBLIC_NAMES)
    for name in napari_kdsam.__all__:
        assert getattr(napari_kdsam, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match='no_such_name'):
        _ = napari_kdsam.no_such_name


def test_the_version_is_the_one_in_pyproject() -> None:
    assert napari_kdsam.__version__ == pyproject()['project']['version']


def test_imports_keep_to_the_contracts() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / 'scripts' / 'lint_imports.py')],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Training joins the package only when that is installed.
    assert (ROOT / 'build/imports/napari_kdsam/training/recipe.py').is_file()


def homes_of_public_names() -> dict[str, set[str]]:
    """Modules that define each public class or function, by its name."""
    homes: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        # What a private module defines, its folder offers.
        if any(part.startswith('_') for part in module.split('.')):
            continue
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            named = isinstance(node, ast.ClassDef | ast.FunctionDef)
            if named and not node.name.startswith('_'):
                homes.setdefault(node.name, set()).add(module)
    return homes


def test_no_public_class_or_function_has_a_name_twice() -> None:
    homes = homes_of_public_names()
    assert {name: own for name, own in homes.items() if len(own) > 1} == {}


def test_the_page_on_architecture_names_only_files_that_are_there() -> None:
    page = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    named = re.findall(r'`([\w/]+(?:/|\.py))`', page)
    assert len(named) > 40
    homes = (ROOT, PACKAGE)
    assert [n for n in named if not any((h / n).exists() for h in homes)] == []


def test_pyproject_lists_every_package() -> None:
    listed = set(pyproject()['tool']['setuptools']['packages'])
    packages = {
        name for name, path in MODULES.items() if path.name == '__init__.py'
    } - {'__init__'}
    assert listed == {'napari_kdsam', *(f'napari_kdsam.{name}' for name in packages)}


def test_the_manifest_is_valid_and_every_command_imports_without_a_display() -> None:
    printed = run_python(
        'import importlib, json\n'
        'from npe2 import PluginManifest\n'
        'def is_callable(python_name):\n'
        "    module, _, name = python_name.partition(':')\n"
        '    return callable(getattr(importlib.import_module(module), name))\n'
        f'manifest = PluginManifest.from_file({str(MANIFEST)!r})\n'
        'manifest.validate_imports()\n'
        'commands = manifest.contributions.commands\n'
        'print(json.dumps({c.id: is_callable(c.python_name) for c in commands}))'
    )
    callable_commands = json.loads(printed)
    assert 'napari-kdsam.annotate' in callable_commands
    assert all(callable_commands.values()), callable_commands


def test_napari_finds_the_installed_manifest() -> None:
    printed = run_python(
        'import npe2\n'
        'manager = npe2.PluginManager.instance()\n'
        'manager.discover()\n'
        "print(manager.get_manifest('napari-kdsam').display_name)"
    )
    assert printed.strip() == 'KD SAM'


def test_the_manifest_at_the_root_is_the_packaged_one() -> None:
    assert (ROOT / 'napari.yaml').read_text(encoding='utf-8') == MANIFEST.read_text(
        encoding='utf-8'
    )


def test_training_without_its_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_kdsam.core import extras

    missing = {'lightning'}
    monkeypatch.setattr(
        extras, 'find_spec', lambda name: None if name in missing else object()
    )
    with pytest.raises(MissingExtraError, match=r'napari-kdsam\[training\]'):
        extras.require_training_extra()
    missing.clear()
    extras.require_training_extra()


def unsafe_calls(source: str) -> list[str]:
    """Calls that could run code hidden in a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        options = {
            option.arg: isinstance(option.value, ast.Constant) and option.value.value
            for option in node.keywords
        }
        called = ast.unparse(node.func)
        unpickles = called.split('.')[0] in ('cloudpickle', 'dill', 'joblib', 'pickle')
        if (
            (called == 'torch.load' and options.get('weights_only') is not True)
            or (unpickles and called.split('.')[-1] in ('load', 'loads', 'Unpickler'))
            or options.get('allow_pickle') is True
        ):
            found.append(ast.unparse(node))
    return found


def test_the_search_for_unsafe_calls_finds_them() -> None:
    unsafe = [
        'torch.load(path)',
        'torch.load(path, weights_only=False)',
        'pickle.load(file)',
        'pickle.Unpickler(file)',
        'np.load(path, allow_pickle=True)',
    ]
    assert unsafe_calls('\n'.join(unsafe)) == unsafe
    assert not unsafe_calls('torch.load(path, weights_only=True); np.load(path)')


@pytest.mark.parametrize('module', list(MODULES))
def test_no_file_can_run_code_when_it_is_read(module: str) -> None:
    assert not unsafe_calls(MODULES[module].read_text(encoding='utf-8'))
