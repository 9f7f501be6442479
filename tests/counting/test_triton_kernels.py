"""The Triton kernels compile for real GPUs; what they compute is held against the oracle in test_engines."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMPILE = """
import warnings
warnings.simplefilter("ignore")  # of Triton's own
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from reluscope.counting import hash_kernels as h
from reluscope.counting import triton_kernels as t
target = GPUTarget("cuda", 90, 32)
for kernel, keys in ((t._pack_kernel, "*i32"), (t._pack_kernel, "*i64"), (t._tally_kernel, "*i64")):
    for values in ("fp32", "fp16", "bf16"):
        for channels in (16, 64):
            types = ["*" + values, "*i64", keys, *["i32"] * 6, "constexpr", "constexpr"]
            constants = {(9,): channels, (10,): 4096 // channels}
            if channels == 64:  # channels_last: Triton makes a stride of 1 a constant
                types[7] = "constexpr"
                constants[(7,)] = 1
            if kernel is t._tally_kernel:
                types.append("constexpr")
                constants[(11,)] = 2
            signature = dict(zip(kernel.arg_names, types, strict=True))
            source = ASTSource(kernel, signature, constants)
            assert "cubin" in triton.compile(source, target=target).asm
for are_distinct in (True, False):
    for keys in ("*i32", "*i64"):
        types = [keys, keys if not are_distinct else "*i64", *["*i64"] * 4, "i32", "i32", "constexpr", "constexpr"]
        signature = dict(zip(h._insert_kernel.arg_names, types, strict=True))
        source = ASTSource(h._insert_kernel, signature, {(8,): are_distinct, (9,): h._BLOCK.value})
        assert "cubin" in triton.compile(source, target=target).asm
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is for Linux only")
def test_every_kernel_compiles_for_hopper() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=environment, timeout=300)
