"""A study: the runs, counted steps, measures and figures that a config describes.  Free of torch.

A config is resolved (`resolve`: what it extends), held against the schema (`check`), and built (`Study.from_config`),
so that every mistake is one line that names the key, what was given and what is allowed, before any job starts.
"""

from reluscope.study.config import check, resolve
from reluscope.study.config_error import ConfigError
from reluscope.study.feasible import require_memory
from reluscope.study.figure import FigureSpec
from reluscope.study.model import MeasureSpec, Run, Study
from reluscope.study.reading import require_readable
from reluscope.study.results import check_results, counting_settings, measuring_settings

__all__ = [
    "ConfigError",
    "FigureSpec",
    "MeasureSpec",
    "Run",
    "Study",
    "check",
    "check_results",
    "counting_settings",
    "measuring_settings",
    "require_memory",
    "require_readable",
    "resolve",
]
