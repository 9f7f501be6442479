"""The guarded import of torchvision, each case in a fresh interpreter: a declared operator cannot be taken back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torchvision_works_also_where_the_plain_import_fails() -> None:
    """Where the plain import works, the guard must change nothing; where it does not, the Python parts must work."""
    code = """
import sys, torch
try:
    import torchvision
    plain = True
except RuntimeError:
    plain = False
from reluscope import guarded_torchvision
torchvision = guarded_torchvision.torchvision
assert bool(guarded_torchvision._libraries) != plain
import torchvision.datasets, torchvision.models, torchvision.transforms
with torch.inference_mode():
    scores = torchvision.models.resnet18(num_classes=7).eval()(torch.zeros(2, 3, 32, 32))
print(tuple(scores.shape), torchvision.datasets.CIFAR10.base_folder)
"""
    assert _run(code) == "(2, 7) cifar-10-batches-py"


# A stand-in that registers the shapes of two operators, as torchvision does, beside a torch that lacks both.
_STAND_IN = """
import torch
from . import half_imported
@torch.library.register_fake("torchvision::first_operator")
def first(): ...
@torch.library.register_fake("torchvision::second_operator")
def second(): ...
"""


def _stand_in(tmp_path: Path, source: str) -> str:
    """Write a package called torchvision; returns code that puts it in front of the real one."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(source)
    (tmp_path / "torchvision" / "half_imported.py").write_text("print('imported')")
    return f"import sys, torch; sys.path.insert(0, {str(tmp_path)!r})\n"


def test_every_missing_operator_is_declared_and_each_attempt_starts_afresh(tmp_path: Path) -> None:
    code = _stand_in(tmp_path, _STAND_IN) + (
        "from reluscope.guarded_torchvision import torchvision\n"
        "print(torchvision.__file__)\n"
        "print(torch.ops.torchvision.first_operator.default, torch.ops.torchvision.second_operator.default)\n"
    )
    assert _run(code).splitlines() == [
        *["imported"] * 3,
        str(tmp_path / "torchvision" / "__init__.py"),
        "torchvision.first_operator.default torchvision.second_operator.default",
    ]


def test_other_errors_pass_and_the_attempts_end(tmp_path: Path) -> None:
    source = "import builtins; builtins.attempts += 1; raise RuntimeError(builtins.messages(builtins.attempts))"
    code = _stand_in(tmp_path, source) + (
        "import builtins\n"
        "builtins.attempts = 0\n"
        "builtins.messages = lambda i: 'something else: operator torchvision::nms does not exist'\n"
        "try: import reluscope.guarded_torchvision\n"
        "except RuntimeError as error: print(attempts, error)\n"
        "builtins.attempts = 0\n"
        "builtins.messages = lambda i: f'operator torchvision::op{i} does not exist'\n"
        "try: import reluscope.guarded_torchvision\n"
        "except RuntimeError as error: print(attempts, error)\n"
    )
    assert _run(code).splitlines() == [
        "1 something else: operator torchvision::nms does not exist",
        "33 operator torchvision::op33 does not exist",
    ]
