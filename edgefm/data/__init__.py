"""Images, labels, patients and splits: DATA in every form. Not training views and not preprocessing."""

from .dataset import Dataset, Problem
from .images import check_images
from .sources import load_data

__all__ = ["Dataset", "Problem", "check_images", "load_data"]
