"""Images, labels, patients and splits: DATA in every form. Not training views and not preprocessing."""

from .clusters import clusters
from .dataset import Dataset, Problem
from .images import check_images
from .sources import load_data

__all__ = ["Dataset", "Problem", "check_images", "clusters", "load_data"]
