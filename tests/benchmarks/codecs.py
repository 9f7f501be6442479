"""How small each lossless codec makes real counts, by the width of the keys, and what is said of their classes.

    python tests/benchmarks/codecs.py results/runs/resnet20-seed0

Takes chunks of each array as the run's counts stores hold them: of every layer at each counted step --chunks whole
chunks, evenly spaced, or all values where they fill none. Arrays over patterns and classes are there where labels were
counted. Gives for every option bits a value at each step, and raw MB a second that one core encodes and decodes. "as
stored" is what a counts store makes of the same chunks, checksums included. Whatever is decoded is compared with what
was encoded.

"delta" takes the differences of neighbours, and "XOR" their bits that differ; PCodec takes differences by itself. Zarr
has no codec for XOR: it is here to say what that costs. Shuffles reach over a whole chunk. PCodec takes no bytes and is
given 16-bit copies of them, as it is in a store. "over the best" compares the bits of all steps together with those of
the best option; "at one step, at most" each step's with the best there.

Prints Markdown tables; --results writes them, and all numbers as JSON, to a folder.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numcodecs import Blosc, PCodec, Zstd
from numpy.typing import NDArray
from reporting import processor, report
from tqdm import tqdm

from reluscope import open_counts
from reluscope.counts import CountsStore
from reluscope.counts.layout import CHUNK_PATTERNS, create_pattern_array

Values = NDArray[np.unsignedinteger]

AS_STORED = "as stored"


class Codec(Protocol):
    """Of numcodecs: makes the very bytes that Zarr writes."""

    def encode(self, buf: Any, /) -> Any: ...

    def decode(self, buf: Any, /) -> Any: ...


def delta(values: Values) -> Values:
    return np.diff(values, prepend=values.dtype.type(0))


def undelta(values: Values) -> Values:
    return np.cumsum(values, dtype=values.dtype)


def xor(values: Values) -> Values:
    return np.concatenate([values[:1], values[1:] ^ values[:-1]])


def unxor(values: Values) -> Values:
    return np.bitwise_xor.accumulate(values)


def unchanged(values: Values) -> Values:
    return values


@dataclass(frozen=True)
class Option:
    """A transform, its inverse, and what compresses it."""

    codec: Codec
    before: Callable[[Values], Values] = unchanged
    after: Callable[[Values], Values] = unchanged

    def encode(self, values: Values) -> bytes:
        return bytes(self.codec.encode(self.before(values.astype(self._dtype(values.dtype), copy=False))))

    def decode(self, data: bytes, dtype: np.dtype[Any]) -> Values:
        return self.after(np.frombuffer(self.codec.decode(data), self._dtype(dtype))).astype(dtype, copy=False)

    def _dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.uint16) if isinstance(self.codec, PCodec) and dtype.itemsize == 1 else dtype


def options(itemsize: int) -> dict[str, Option]:
    """All options, by name.  Blosc's level 2, 5 and 9 are zstd's 3, 9 and 22."""
    pcodecs: dict[str, dict[str, Any]] = {
        "PCodec 8": {},
        "PCodec 12": {"level": 12},
        **{f"PCodec 8, delta order {order}": {"delta_encoding_order": order} for order in (0, 1, 2)},
        "PCodec 8, lookback": {"delta_spec": "try_lookback"},
    }
    found = {name: Option(PCodec(**settings)) for name, settings in pcodecs.items()}
    found["XOR + PCodec 8"] = Option(PCodec(), xor, unxor)
    for name, *pair in (("", unchanged, unchanged), ("delta + ", delta, undelta), ("XOR + ", xor, unxor)):
        for level in (3, 9):
            found[f"{name}zstd {level}"] = Option(Zstd(level), *pair)
        for shuffle, kind in ((Blosc.SHUFFLE, "shuffle"), (Blosc.BITSHUFFLE, "bitshuffle")):
            for clevel, level in ((2, 3), (5, 9), (9, 22)):
                if level < 22 or (name, kind) in {("", "shuffle"), ("XOR + ", "bitshuffle")}:  # the slow level
                    blosc = Blosc("zstd", clevel, shuffle, blocksize=CHUNK_PATTERNS * itemsize)
                    found[f"{name}{kind} + zstd {level}"] = Option(blosc, *pair)
    return found


def chunks_of(values: Values, number: int) -> list[Values]:
    """So many whole chunks, evenly spaced; all values where they fill none."""
    whole = len(values) // CHUNK_PATTERNS
    chosen = np.unique(np.linspace(0, max(whole - 1, 0), number).astype(int)).tolist()
    return [values[i * CHUNK_PATTERNS : (i + 1) * CHUNK_PATTERNS] for i in chosen]


def chunks_by_kind(store: CountsStore, index: int, number: int) -> dict[str, list[Values]]:
    """Chunks of the arrays at one counted step, by "<array>, <bits of a key>-bit keys"."""
    found: dict[str, list[Values]] = {}
    for layer in range(len(store.layer_names)):
        patterns = store.at(index, layer, classes=True)
        arrays = {"keys": patterns.keys, "counts": patterns.counts.astype(np.uint32)}  # as the store has them
        if (classes := patterns.classes) is not None:
            arrays["num_classes_of"], arrays["class_index"] = classes.num_classes_of, classes.index
            arrays["class_counts"] = classes.counts
        for name, values in arrays.items():
            kind = f"{name}, {patterns.keys.dtype.itemsize * 8}-bit keys"
            found.setdefault(kind, []).extend(chunks_of(values, number))
    return dict(sorted(found.items(), reverse=True))


def measure(option: Option, chunks: list[Values]) -> dict[str, float]:
    """Bits a value, and raw MB a second, of one core, encoding and decoding."""
    start = time.process_time()
    encoded = [option.encode(chunk) for chunk in chunks]
    between = time.process_time()
    decoded = [option.decode(data, chunk.dtype) for data, chunk in zip(encoded, chunks, strict=True)]
    end = time.process_time()
    if not all(map(np.array_equal, chunks, decoded)):
        raise AssertionError("what was decoded is not what was encoded")
    raw = sum(chunk.nbytes for chunk in chunks) / 1e6
    size = sum(map(len, encoded))
    return {
        "bits": 8 * size / sum(map(len, chunks)),
        "encode": raw / (between - start),
        "decode": raw / (end - between),
    }


def measure_stored(kind: str, chunks: list[Values]) -> dict[str, float]:
    """The same of a counts store's array, through Zarr; what fills no chunk shares one, as steps do in a store."""
    values = np.concatenate(chunks)
    files: dict[str, Any] = {}
    name, bits = re.fullmatch(r"(\w+), (\d+)-bit keys", kind).groups()  # type: ignore[union-attr]
    array = create_pattern_array(zarr.create_group(files), name, values.dtype, np.dtype(f"u{int(bits) // 8}"))
    array.resize(values.shape)
    start = time.process_time()
    array[:] = values
    between = time.process_time()
    read = array[:]
    end = time.process_time()
    if not np.array_equal(read, values):
        raise AssertionError(f"{kind}: what was read is not what was written")
    size = sum(len(data) for name, data in files.items() if "/c/" in name)
    raw = values.nbytes / 1e6
    return {"bits": 8 * size / len(values), "encode": raw / (between - start), "decode": raw / (end - between)}


def benchmark(store: CountsStore, number: int) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Measured numbers by kind, option and step."""
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for index, step in enumerate(store.steps.tolist()):
        for kind, chunks in chunks_by_kind(store, index, number).items():
            table = results.setdefault(kind, {})
            table.setdefault(AS_STORED, {})[str(step)] = measure_stored(kind, chunks)
            for name, option in tqdm(options(chunks[0].itemsize).items(), desc=f"step {step}, {kind}", disable=None):
                table.setdefault(name, {})[str(step)] = measure(option, chunks)
    return results


def as_table(kind: str, table: dict[str, dict[str, dict[str, float]]]) -> str:
    """Best first, by the bits of all steps together."""
    steps = list(table[AS_STORED])
    bits = {name: np.array([row[step]["bits"] for step in steps]) for name, row in table.items()}
    best_of_step = np.min(list(bits.values()), axis=0)
    best = min(of_option.sum() for of_option in bits.values())
    header = [kind, *(f"step {step}, bits" for step in steps), "over the best", "at one step, at most"]
    header += ["encode, MB/s", "decode, MB/s"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name in sorted(bits, key=lambda name: bits[name].sum()):
        speeds = [np.median([table[name][step][key] for step in steps]) for key in ("encode", "decode")]
        cells = [
            f"**{name}**" if name == AS_STORED else name,
            *(f"{number:.4g}" for number in bits[name]),
            f"{bits[name].sum() / best:.3f}",
            f"{(bits[name] / best_of_step).max():.3f}",
            *(f"{speed:.0f}" for speed in speeds),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's results folder, which holds counts stores")
    parser.add_argument("--chunks", type=int, default=2, help="of a layer at a step; default 2")
    parser.add_argument("--results", type=Path, help="folder for codecs.json and codecs.md")
    return parser.parse_args()


def main() -> None:
    settings = parse_arguments()
    store = open_counts(*sorted(settings.run.glob("counts/*.zarr")))
    results = benchmark(store, settings.chunks)
    network, images = store.attributes["training"]["network"], store.num_positions[0] // (store.height * store.width)[0]
    about = {
        "machine": f"{processor()}, 1 thread",
        "counts": f"{network['name']}, depth {network['depth']}, {images:,} images, steps "
        f"{', '.join(map(str, store.steps.tolist()))}; {settings.chunks} chunks of {CHUNK_PATTERNS:,} of each layer",
    }
    tables = "\n\n".join(as_table(kind, table) for kind, table in results.items())
    report("codecs", about, ("numpy", "zarr", "numcodecs", "pcodec"), tables, {"results": results}, settings.results)


if __name__ == "__main__":
    main()
