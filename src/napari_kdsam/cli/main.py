"""The command ``napari-kdsam``; each command loads what it needs when it runs."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated

import typer

from napari_kdsam.cli.evaluate import evaluate
from napari_kdsam.cli.train import app as training_app
from napari_kdsam.core.choices import Existing, Export, LabelFormat

app = typer.Typer(
    name='napari-kdsam',
    help='One click on an ultrasound, dermoscopy or endoscopy image becomes a label.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Square brackets in the help are coordinates, not markup.
    rich_markup_mode=None,
)

app.add_typer(training_app, name='train')
app.command('evaluate')(evaluate)

_ModelOption = Annotated[
    str,
    typer.Option(
        metavar='NAME|PATH', help='A name from `models`, or the path of a weights file.'
    ),
]
_DeviceOption = Annotated[
    str, typer.Option(metavar='auto|cpu|cuda|mps', help='Where to compute.')
]
_PointOption = Annotated[
    list[str] | None,
    typer.Option(metavar='R,C', help='A point inside the object (repeatable).'),
]
_NegativeOption = Annotated[
    list[str] | None,
    typer.Option(metavar='R,C', help='A point outside the object (repeatable).'),
]
_ManyInputs = Annotated[
    list[str],
    typer.Argument(
        metavar='INPUT',
        help='Image files, folders, patterns in quotes, or URLs.',
        show_default=False,
    ),
]
_SecondLookOption = Annotated[
    bool,
    typer.Option(
        '--second-look/--no-second-look',
        help='Look again, at full resolution, at small objects of large images.',
    ),
]
_WorkersOption = Annotated[
    int, typer.Option(min=1, metavar='N', help='Processes on this computer.')
]


@app.command()
def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar='INPUT',
            help='Image files: PNG, JPEG, TIFF, NPY, DICOM, NIfTI, video or zarr.',
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            '--out',
            '-o',
            metavar='DIR',
            help='Folder for the results, made if it does not exist.',
            show_default=False,
        ),
    ],
    point: _PointOption = None,
    negative: _NegativeOption = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar='R0,C0,R1,C1',
            help='A box around the object; several boxes are several objects.',
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar='FILE.json',
            help='Prompts from a file, or from the JSON of an earlier result.',
            show_default=False,
        ),
    ] = None,
    overlay: Annotated[
        bool, typer.Option('--overlay', help='Also draw the masks on the image.')
    ] = False,
    model: _ModelOption = 'kdsam',
    device: _DeviceOption = 'auto',
    label_format: Annotated[
        LabelFormat,
        typer.Option(
            '--format',
            help='File format of the labels; auto: TIFF for stacks, else PNG.',
        ),
    ] = LabelFormat.auto,
    frame: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            metavar='N',
            help='A frame to segment, counted from 0 (repeatable); all by default.',
        ),
    ] = None,
    second_look: _SecondLookOption = True,
) -> None:
    """Segment objects in image files.

    Coordinates are rows and columns of image pixels counted from 0. All points and at
    most one box describe one object; several boxes without points are several objects;
    a file given with --prompts describes any number of them.

    Every input gives STEM_labels.png (or .tif), where object n has the value n and the
    earlier object keeps the pixels where objects overlap; STEM.json with prompts,
    scores and versions, which --prompts accepts; and with --overlay STEM_overlay.png,
    for stacks a sheet of up to six frames. In a stack every frame (or each given with
    --frame) is segmented with the same prompts; the label TIFF has as many frames as
    the stack.

    A prompts file is {"format": 1, "objects": [{"points": [[R,C], ...], "labels":
    [1, 0, ...], "box": [R0,C0,R1,C1], "frame": N}, ...]}, every part of an object
    optional, or {"format": 1, "images": {"name.png": {"objects": [...]}, ...}}.

    Exit code: 0 all inputs done, 1 some input failed, 2 wrong usage, prompt, model or
    device.
    """
    from napari_kdsam.cli.segment import segment_files

    code = segment_files(
        inputs,
        out,
        points=point or [],
        negatives=negative or [],
        boxes=box or [],
        prompts_path=prompts,
        overlay=overlay,
        model_name=model,
        device=device,
        label_format=label_format,
        frames=frame or [],
        second_look=second_look,
    )
    raise typer.Exit(code)


@app.command()
def batch(
    inputs: _ManyInputs,
    out: Annotated[
        Path,
        typer.Option(
            '--out',
            '-o',
            metavar='DIR',
            help='Folder for the results, made if it does not exist.',
            show_default=False,
        ),
    ],
    prompts: Annotated[
        str,
        typer.Option(
            metavar='FILE|automatic|none',
            help='Prompts from a JSON, CSV or COCO file; everything there is '
            '(automatic); or the targets that the model proposes itself (none).',
            show_default=False,
        ),
    ] = '',
    point: _PointOption = None,
    negative: _NegativeOption = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar='R0,C0,R1,C1', help='A box around an object.'),
    ] = None,
    propagate: Annotated[
        bool,
        typer.Option(
            '--propagate',
            help='Follow objects through stacks from the frames that have prompts.',
        ),
    ] = False,
    model: _ModelOption = 'kdsam',
    device: _DeviceOption = 'auto',
    workers: _WorkersOption = 1,
    scheduler: Annotated[
        str,
        typer.Option(
            metavar='tcp://HOST:PORT', help='A Dask scheduler.', show_default=False
        ),
    ] = '',
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar='DIR',
            help='Look for embeddings in this store, and keep new ones there.',
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option('--resume', help='Go on with a batch that ended early.'),
    ] = False,
    existing: Annotated[
        Existing,
        typer.Option(help='What to do with results that are there already.'),
    ] = Existing.fail,
    also: Annotated[
        list[Export] | None,
        typer.Option(
            help='Also write NIfTI for NIfTI images, DICOM-SEG for DICOM images, or one '
            'COCO file (repeatable).'
        ),
    ] = None,
    second_look: _SecondLookOption = True,
) -> None:
    """Segment many images and stacks, in parallel and restartable.

    Every image gives STEM_labels.png, every stack (TIFF, NPY, DICOM, NIfTI, video or
    zarr) STEM_labels.tif. manifest.csv lists what became of each frame: done, failed
    or skipped, with the reason. A frame that fails is named and the others go on.

    A CSV of prompts has the columns image, frame, object, row, column and label for
    points, or row0, column0, row1 and column1 for boxes; image, frame and object may
    be left out. Of a COCO file the box of each annotation is an object.

    Exit code: 0 all done or skipped, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    from napari_kdsam.cli.batch import batch_files

    code = batch_files(
        inputs,
        out,
        prompts=prompts,
        points=point or [],
        negatives=negative or [],
        boxes=box or [],
        propagate=propagate,
        model=model,
        device=device,
        workers=workers,
        scheduler=scheduler,
        store=embeddings,
        existing=Existing.resume if resume else existing,
        also=also or [],
        second_look=second_look,
    )
    raise typer.Exit(code)


@app.command()
def embed(
    inputs: _ManyInputs,
    out: Annotated[
        Path,
        typer.Option(
            '--out',
            '-o',
            metavar='DIR',
            help='Folder of the embedding store, made if it does not exist.',
            show_default=False,
        ),
    ],
    model: _ModelOption = 'kdsam',
    device: _DeviceOption = 'auto',
    workers: _WorkersOption = 1,
) -> None:
    """Compute embeddings once and keep them, for `batch --embeddings` and the viewer.

    A store is a zarr group with 2 MB for each frame. It may be filled by several
    processes at once and shared between users; a damaged embedding is made again.
    """
    from napari_kdsam.cli.batch import embed_files

    raise typer.Exit(
        embed_files(inputs, out, model=model, device=device, workers=workers)
    )


@app.command()
def replay(
    session: Annotated[
        Path,
        typer.Argument(
            metavar='SESSION.json',
            help='A session file of the annotator.',
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            '--out',
            '-o',
            metavar='FILE.tif',
            help='The labels to write: .tif, or .png for a single image.',
            show_default=False,
        ),
    ],
) -> None:
    """Write the labels of an annotator's session without opening napari.

    The annotator keeps a session file for each image (see `napari-kdsam info` for the
    folder). Objects get the labels they had; open prompts are only counted.
    """
    from napari_kdsam.cli.tables import replay_session

    raise typer.Exit(replay_session(session, out))


@app.command()
def models(
    download: Annotated[
        str | None,
        typer.Option(
            metavar='NAME',
            help='Download this model from its publisher first.',
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the models, what each is and where its file is."""
    from napari_kdsam.cli.tables import show_models

    raise typer.Exit(show_models(download))


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option('--out', '-o', metavar='DIR', help='Folder for the results.')
    ] = Path('demo-results'),
    view: Annotated[
        bool, typer.Option('--view', help='Open the results in napari afterwards.')
    ] = False,
    device: _DeviceOption = 'auto',
) -> None:
    """Segment four real ultrasound images and four phantoms, and say how it went.

    The real images are anonymised examples that come with pydicom; the phantoms are
    drawn, so that Dice against their exact ground truth can be shown. Good numbers
    here say that the installation works, not how accurate it is on patients.
    """
    from napari_kdsam.cli.tables import run_demo

    raise typer.Exit(run_demo(out, device, view=view))


@app.command()
def info() -> None:
    """Show versions, devices and the default model."""
    from napari_kdsam.cli.tables import show_info

    raise typer.Exit(show_info())


def main() -> None:
    """Run the command line."""
    # Readers report oddities of a file they can read all the same.
    warnings.filterwarnings('ignore', module=r'(pydicom|tifffile|PIL|pylibjpeg)\b')
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)
    logging.getLogger('pydicom').setLevel(logging.CRITICAL)
    app()


if __name__ == '__main__':
    main()
