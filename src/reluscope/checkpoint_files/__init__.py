"""Checkpoints that other trainings left as files: which there are, what they hold, and how they come into a network.

Importing this room does not import torch; `loading` does.
"""

from reluscope.checkpoint_files.manifest import Entry, findings, read_manifest, write_manifest
from reluscope.checkpoint_files.spec import FilesSpec

__all__ = ["Entry", "FilesSpec", "findings", "read_manifest", "write_manifest"]
