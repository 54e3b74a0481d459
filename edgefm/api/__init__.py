"""Every verb once, as a function. `cli.py` makes the commands out of these signatures and docstrings.

Not the work itself: each verb lives in the room of its name, and nothing heavy is imported before it is called.
"""

from .compress import adapt, distill, export, quantize, quickstart
from .prove import bench, verify
from .use import doctor, inspect, run, slim

__all__ = ["adapt", "bench", "distill", "doctor", "export", "inspect", "quantize", "quickstart", "run", "slim", "verify"]
