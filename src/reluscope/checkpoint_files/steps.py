"""The step that a file's name says.  Free of torch.

It is the number beside a word for steps, else beside one for epochs, else the only number that stands by itself or
beside a word such as checkpoint. Nothing else is guessed.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import PurePath
from typing import NamedTuple

MOST_STEPS = 1 << 62
"""No step is that high, so that arithmetic with steps stays within 64 bits."""

SUFFIXES = (".pt", ".pth", ".pth.tar", ".ckpt", ".safetensors")
"""What the names of checkpoints end in."""

SUFFIXES_OF_PATTERNS = (*SUFFIXES, ".bin")
"""The same where a pattern names the files: in a folder, a .bin may be anything."""

STEP, EPOCH, ALONE = "step", "epoch", "alone"
"""Whether a number stands beside a word for steps, beside one for epochs, or beside neither."""

_PLURALS = ("steps", "globalsteps", "timesteps", "iters", "iterations", "updates", "epochs")
_LABELS = {
    **dict.fromkeys(("step", "globalstep", "timestep", "iter", "iteration", "itr", "it", "update", "ba"), STEP),
    **dict.fromkeys(_PLURALS, STEP),
    **dict.fromkeys(("epoch", "epochs", "ep", "e"), EPOCH),
}
_FOLDERS = ("checkpoint", "ckpt", "chkpt", "snapshot")
_GENERIC = (*_FOLDERS, "model", "net", "network", "state", "weights")
"""Words to which a number that is the step may be written without anything between."""

_OTHERS = re.compile(
    "acc|accuracy|batch|batchsize|beam|bs|class|classes|cuda|depth|dim|dp|exp|experiment|fid|fold|gpu|group|heads?|hidden|"
    "id|images|img|iou|job|kimg|layers?|loss|lr|map|mp|node|of|part|phase|pp|psnr|rank|res|run|samples|score|seed|seq|"
    "shard|size|split|stage|task|temp|test|tokens?|top|tp|trial|v|val|ver|version|wd|width|worker"
)
"""Words beside which a number is no step."""

_NUMBER = re.compile(
    r"([0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+(?:\.[0-9]+)*)"
    r"(?:[eE]([-+]?[0-9]+)(?![A-Za-z0-9]))?"
    r"([kKmMB](?=$|[^A-Za-z]|(?i:(?:global)?(?:step|iter|epoch|update))))?"
)
_TOKEN = re.compile(rf"{_NUMBER.pattern}|([A-Z]?[a-z]+|[A-Z]+(?![a-z])|[A-Z])|([^A-Za-z0-9]+)")
"""A name's parts: numbers, words (of camelCase, too), and what is between them."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_DIGIT = re.compile("[0-9]")
_DATE = re.compile(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([0-9]{4}|[0-9]{6})?")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(_[0-9]{3})+(?![0-9])")
_BETWEEN = re.compile(r"[^A-Za-z0-9()]{1,3}")


class Reading(NamedTuple):
    """What a name says.

    Attributes:
        step: None where it is not clear.
        counts: STEP, EPOCH or ALONE.
        candidates: the numbers that may be it, as they are written; of all that the name has where none may.
    """

    step: int | None
    counts: str
    candidates: tuple[str, ...]


class _Token(NamedTuple):
    """A part of a name; `value` is the number of steps that it may stand for, `number` whether it is a number."""

    text: str
    start: int
    number: bool
    value: int | None = None


def stem(file: str) -> str:
    """A file's name without what says its kind."""
    name = os.path.basename(file)  # noqa: PTH119 - of 100,000 files
    return next((name.removesuffix(suffix) for suffix in SUFFIXES_OF_PATTERNS if name.endswith(suffix)), name)


def read_step(file: str) -> Reading:
    """The step that a file's name says; or its folder's, beside a word there, where the file's has no candidate."""
    reading, is_empty = _read(stem(file), _GENERIC)
    if is_empty and _DIGIT.search(folder := PurePath(file).parent.name):
        above, _ = _read(folder, _FOLDERS, beside_words=True)
        if above.step is not None:
            return above
    return reading


def whole_number(text: str) -> int | None:
    """The number of steps that a text is, such as 0100, 10k or 1e3; None where it is none."""
    match = _NUMBER.fullmatch(text)
    return _value(*match.groups()) if match else None


def number_around(text: str, start: int, end: int) -> str:
    """The number of which a text's part from `start` to `end` is a piece; that part where it is a whole one."""
    for match in _NUMBER.finditer(text):
        if match.start() <= start and end <= match.end():
            if match[2] or match[3] or "," in match[1]:
                return match[0]
            digits = re.finditer("[0-9]+", match[0])  # points may part what are numbers of their own
            around = [d[0] for d in digits if match.start() + d.start() <= start and end <= match.start() + d.end()]
            return around[0] if around else match[0]
    return text[start:end]


def _read(name: str, generic: tuple[str, ...], beside_words: bool = False) -> tuple[Reading, bool]:
    """What a name says, and whether no number of it could be a step."""
    tokens = _tokens(name)
    numbers = [token for token in tokens if token.number]
    labelled = _labelled(name, tokens)
    for counts in (STEP, EPOCH):
        if found := [token for kind, token in labelled if kind == counts]:
            return _only(found, counts), False
    alone = [
        token
        for index, token in enumerate(tokens)
        if token.value is not None and _stands_alone(tokens, index, generic, beside_words)
    ]
    if not alone:
        return Reading(None, ALONE, tuple(token.text for token in numbers)), True
    return _only(alone, ALONE), False


def _only(found: list[_Token], counts: str) -> Reading:
    """The step where all of these say the same."""
    same = len({token.value for token in found}) == 1
    return Reading(found[0].value if same else None, counts, tuple(dict.fromkeys(token.text for token in found)))


def _tokens(name: str) -> list[_Token]:
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(name):
        if match[1] is None:
            tokens.append(_Token(match[0], match.start(), False))
            continue
        value, text, before = _value(match[1], match[2], match[3]), match[0], tokens[-1].text if tokens else ""
        if before.endswith("-") and (len(before) > 1 or len(tokens) == 1):
            value, text = None, f"-{text}"
        if before.endswith("("):
            value = None  # a copy: name (1).pt
        tokens.append(_Token(text, match.start(), True, value))
    return tokens


def _value(digits: str, power: str | None, unit: str | None) -> int | None:
    """The number of steps that is written; None where it is broken, or no step is that high."""
    digits, power, unit = digits.replace(",", ""), power or "0", (unit or "").lower()
    if len(digits) > 40 or len(power) > 4 or digits.count(".") > 1:
        return None
    if digits.isdecimal() and power == "0":
        value = int(digits) * _UNITS[unit]
        return value if value < MOST_STEPS else None
    if not unit and int(power) <= 0:
        return None  # 0.25, 1e-3
    exact = Decimal(digits) * Decimal(10) ** int(power) * _UNITS[unit]
    return int(exact) if exact < MOST_STEPS and exact == exact.to_integral_value() else None


def _labelled(name: str, tokens: list[_Token]) -> list[tuple[str, _Token]]:
    """The numbers beside a word for steps or epochs: what it counts, and the number."""
    found = []
    for index, token in enumerate(tokens):
        word = token.text.lower()
        if token.number or word not in _LABELS:
            continue
        before, after = _neighbour(tokens, index, -1), _neighbour(tokens, index, 1)
        is_glued = [abs(n - index) == 1 if n is not None else False for n in (before, after)]
        if len(word) <= 2:  # as in e5, ep5 and 5ep, but not where it is part of another word or code
            if before is not None and not (is_glued[0] and _is_between(tokens, index + 1)):
                before = None
            if not _is_between(tokens, index - 1) or (word == "e" and not is_glued[1]):
                after = None
        if before is not None and after is not None and is_glued[0] != is_glued[1]:
            before, after = (before, None) if is_glued[0] else (None, after)  # 10epochs_5, 5_epoch10
        elif before is not None and after is not None and word not in _PLURALS and not is_glued[0]:
            before = None  # 3_step_10
        found += [(_LABELS[word], _clear(name, tokens, n, _LABELS[word])) for n in (before, after) if n is not None]
    return found


def _neighbour(tokens: list[_Token], index: int, way: int) -> int | None:
    """The number beside a word, before (-1) or after it (1)."""
    near = index + way
    if 0 <= near < len(tokens) and not tokens[near].number and _BETWEEN.fullmatch(tokens[near].text):
        near += way
    return near if 0 <= near < len(tokens) and tokens[near].number else None


def _is_between(tokens: list[_Token], index: int) -> bool:
    """Whether there is neither a letter nor a digit, but something else or an end."""
    return not 0 <= index < len(tokens) or not tokens[index].text[-1].isalnum()


def _clear(name: str, tokens: list[_Token], index: int, counts: str) -> _Token:
    """The number; without a value where it is not clear how far it goes: step5b, step_1_000."""
    token = tokens[index]
    if _is_cut(tokens, index):
        return token._replace(value=None, text=token.text + tokens[index + 1].text)
    thousands = _THOUSANDS.match(name, token.start)
    if counts == STEP and thousands and len(thousands[0]) > len(token.text):
        return token._replace(value=None, text=thousands[0])
    return token


def _is_cut(tokens: list[_Token], index: int) -> bool:
    """Whether a letter or two follow that may belong to the number."""
    after = "" if _is_between(tokens, index + 1) else tokens[index + 1].text
    return 0 < len(after) < 3 and after.lower() not in ("of", *_LABELS)


def _stands_alone(tokens: list[_Token], index: int, generic: tuple[str, ...], beside_words: bool) -> bool:
    """Whether a number beside no word for steps or epochs may be the step."""
    text = tokens[index].text
    if not _is_between(tokens, index + 1) or _DATE.fullmatch(text) or text[-1] in "mB":
        return False  # 8x8, 20261126, pythia-70m
    if index + 2 < len(tokens) and tokens[index + 2].text == "of":
        return False
    if not _is_between(tokens, index - 1):
        return _letters_before(tokens, index) in generic
    word = tokens[index - 2].text.lower() if index > 1 else ""
    return word in generic if beside_words else not _OTHERS.fullmatch(word)


def _letters_before(tokens: list[_Token], index: int) -> str:
    """All that a number is written to: resnet, though ResNet is two words."""
    text = ""
    while index > 0 and not _is_between(tokens, index - 1):
        index -= 1
        text = tokens[index].text + text
    return text.lower()
