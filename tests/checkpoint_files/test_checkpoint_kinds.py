"""What is no checkpoint is told by what it is, in one line; and what is one, is never taken for something else."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reluscope.checkpoint_files.finding import CheckpointFile
from reluscope.checkpoint_files.kinds import HEAD, mistaken_for_one
from reluscope.checkpoint_files.loading import load_state
from reluscope.checkpoint_files.manifest import describe

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 102530333\n"
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html lang=en><head><title>Sign in\n - Drive</title></head><body></body></html>"

MISTAKEN = {
    "pointer": (LFS, "this is Git LFS's pointer to the file of 102,530,333 bytes, not the file; fetch it with git lfs"),
    "annex": (b"/annex/objects/SHA256E-s5--ab.pt\n", "this is git-annex's pointer to the file, not the file"),
    "annex link": (b"../.git/annex/objects/SHA256E-s5--ab.pt", "this is git-annex's pointer to the file, not the file"),
    "page": (PAGE, r"this is a web page \(Sign in - Drive\), saved under the name of a checkpoint; download the file"),
    "bare page": (b"<HTML><body>404</body></HTML>", "this is a web page, saved under the name of a checkpoint"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "this is XML, as a server answers"),
}

OTHERS = {
    "empty": (b"", "the file is empty"),
    "zeros": (bytes(3000), r"it begins with zeros \(3,000 bytes\), as a broken copy does"),
    "answer": (json.dumps({"error": "Repository not found"}).encode(), "this is text, which begins"),
    "text": ("Entry not found: é".encode(), "this is text, which begins 'Entry not found: é'"),
    "gzip": (gzip.compress(b"weights"), "this is no checkpoint, but compressed by gzip; unpack it first"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(90), "this is no checkpoint, but an HDF5 file, as Keras saves"),
    "npy": (b"\x93NUMPY\x01\x00", r"this is no checkpoint, but a NumPy array \(\.npy\)"),
    "png": (b"\x89PNG\r\n\x1a\n", "this is no checkpoint, but a PNG picture"),
    "llama": (b"GGUF\x03\x00", "this is no checkpoint, but a GGUF file"),
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU())


def refusal(file: Path) -> str:
    with pytest.raises(ValueError, match=file.name) as error:
        load_state(str(file), network())
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".ckpt"])
@pytest.mark.parametrize("name", MISTAKEN | OTHERS)
def test_each_is_told_as_it_is_loaded(name: str, suffix: str, tmp_path: Path) -> None:
    content, message = (MISTAKEN | OTHERS)[name]
    file = tmp_path / f"step_1{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_state(str(file), network())
    assert "save its weights alone" not in refusal(file)


@pytest.mark.parametrize("name", MISTAKEN)
def test_what_git_or_a_download_left_is_told_before_anything_is_counted(name: str, tmp_path: Path) -> None:
    content, message = MISTAKEN[name]
    file = tmp_path / "step_1.pt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        describe([CheckpointFile(1, str(file))], "x", {})


def test_a_file_under_the_other_format_is_told(tmp_path: Path) -> None:
    state = network().state_dict()
    save_file(state, tmp_path / "a.pt")
    assert "this is a safetensors file; rename it to .safetensors" in refusal(tmp_path / "a.pt")
    for is_zip in (True, False):
        torch.save(state, tmp_path / "b.safetensors", _use_new_zipfile_serialization=is_zip)
        assert "this is a file of torch.save; rename it to .pt" in refusal(tmp_path / "b.safetensors")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_archives_of_other_things_are_told(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(network()), str(tmp_path / "program.pt"))
    assert "this is a TorchScript program; save the weights alone" in refusal(tmp_path / "program.pt")
    np.savez(tmp_path / "arrays.npz", weight=np.ones(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.pt")
    assert "this is no checkpoint, but NumPy arrays (.npz)" in refusal(tmp_path / "arrays.pt")
    with zipfile.ZipFile(tmp_path / "all.pt", "w") as archive:
        archive.writestr("run/step_1.pt", b"x")
    assert "this is a zip archive of other files, such as run/step_1.pt" in refusal(tmp_path / "all.pt")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_is_never_taken_for_something_else(is_zip: bool, tmp_path: Path) -> None:
    for name, content in {"version https://git-lfs.github.com/spec/v1": network().state_dict(), "<html>": {}}.items():
        torch.save({name: 1, "model": content}, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
        assert mistaken_for_one((tmp_path / "a.pt").read_bytes()[:HEAD]) is None
    save_file({"<html>": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"/annex/objects/": "x"})
    assert mistaken_for_one((tmp_path / "a.safetensors").read_bytes()[:HEAD]) is None


def test_a_bit_that_flipped_in_the_weights_is_noticed(tmp_path: Path) -> None:
    network, file = torch.nn.Linear(3, 50), tmp_path / "a.pt"
    weights = network.state_dict()
    torch.save(weights, file)
    assert load_state(str(file), network) == []
    content = bytearray(file.read_bytes())
    content[content.find(weights["weight"].numpy().tobytes()) + 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt: damaged: a/data/0 in it does not have the checksum"):
        load_state(str(file), network)


def test_a_file_that_was_saved_without_checksums_is_taken(tmp_path: Path) -> None:
    network, file = torch.nn.Linear(3, 50), tmp_path / "a.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(network.state_dict(), file)
    finally:
        torch.serialization.set_crc32_options(True)
    other = torch.nn.Linear(3, 50)
    assert load_state(str(file), other) == []
    assert torch.equal(other.weight, network.weight)


@pytest.mark.parametrize("content", [b"PK\x03", b"\x80\x02\x95", bytes(range(1, 255))])
def test_what_torch_cannot_read_is_not_told_to_be_saved_otherwise(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged, cut off, or not made by torch\.save"):
        load_state(str(file), torch.nn.Linear(2, 2))
