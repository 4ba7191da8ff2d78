"""Measures without what chance gives: the price of that is the difference."""

from jaxrep.similarity import alignment

_ALONE = {'paired': False, 'summary': None, 'null': None, 'law': None}

CKA = alignment.CKA._replace(**_ALONE)
CKA_DEBIASED = alignment.DEBIASED_CKA._replace(**_ALONE)
