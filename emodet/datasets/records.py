"""The former name of `emodet.datasets.samples`; goes when nothing imports it any more."""

from emodet.datasets.samples import Listing, Reader
from emodet.datasets.samples import Sample as Record

__all__ = ["Listing", "Reader", "Record"]
