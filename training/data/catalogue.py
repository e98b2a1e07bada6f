"""What is known of published data sets: how they are written, look and are labelled."""

from __future__ import annotations

from dataclasses import dataclass

MODALITIES = ('ultrasound', 'dermoscopy', 'endoscopy', 'other')


@dataclass(frozen=True)
class DataSetInfo:
    """A data set as tables and training speak of it.

    Attributes
    ----------
    title : str
        As its publisher writes it.
    modality : str
        One of `MODALITIES`; chooses the augmentation.
    objects : tuple of str
        Names of what class numbers 1, 2, ... of its masks stand for.
    """

    title: str
    modality: str
    objects: tuple[str, ...]


DATA_SETS = {
    'kvasir_seg': DataSetInfo('Kvasir-SEG', 'endoscopy', ('polyp',)),
    'isic': DataSetInfo('ISIC', 'dermoscopy', ('skin lesion',)),
    'busi': DataSetInfo('BUSI', 'ultrasound', ('breast lesion',)),
    'busbra': DataSetInfo('BUS-BRA', 'ultrasound', ('breast lesion',)),
    'hc18': DataSetInfo('HC18', 'ultrasound', ('fetal head',)),
    'camus': DataSetInfo(
        'CAMUS', 'ultrasound', ('left ventricle', 'myocardium', 'left atrium')
    ),
    'ddti': DataSetInfo('DDTI', 'ultrasound', ('thyroid nodule',)),
    'mmotu': DataSetInfo('MMOTU', 'ultrasound', ('ovary',)),
    'fh_ps_aop': DataSetInfo(
        'FH-PS-AOP', 'ultrasound', ('pubic symphysis', 'fetal head')
    ),
    'ham10000': DataSetInfo('HAM10000', 'dermoscopy', ('skin lesion',)),
    'cvc_clinicdb': DataSetInfo('CVC-ClinicDB', 'endoscopy', ('polyp',)),
    'fuseg': DataSetInfo('FUSeg', 'other', ('foot ulcer',)),
    'things': DataSetInfo('Anything', 'other', ()),
}
_UNKNOWN = DataSetInfo('', 'other', ())


def modality_of(data_set: str) -> str:
    """One of `MODALITIES`; ``other`` for a data set that is not known."""
    return DATA_SETS.get(data_set, _UNKNOWN).modality


def object_name(data_set: str, number: int) -> str:
    """What the class number `number`, from 1, of a data set's masks stands for.

    Returns
    -------
    str
        ``object NUMBER`` where that is not known.
    """
    names = DATA_SETS.get(data_set, _UNKNOWN).objects
    return names[number - 1] if number <= len(names) else f'object {number}'
