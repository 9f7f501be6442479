"""Kinds of figures, and files that hold the same bytes each time."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from reluscope import figures
from reluscope.series import MeasureSeries


def small_figure() -> Figure:
    steps = np.arange(6)
    values = np.linspace(0, 1, 24).reshape(6, 4)
    series = MeasureSeries("relative_entropy", values, steps, steps / 2, list("abcd"), np.array([0, 0, 1, 1]))
    heatmaps = figures.find("heatmaps")
    return heatmaps.draw({"a": {"relative_entropy": [series]}}, runs={"a": "A"}, measures=["relative_entropy"])


def test_every_kind_has_its_module() -> None:
    for kind in figures.KINDS:
        assert callable(figures.find(kind).draw)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="figure kind: unknown 'heatmap'; did you mean 'heatmaps'"):
        figures.find("heatmap")
    with pytest.raises(ValueError, match="unknown 'heatmap'"):
        figures.source_files("heatmap")


@pytest.mark.parametrize("kind", figures.KINDS)
def test_source_files_hold_all_that_drawing_imports_from_the_room(kind: str) -> None:
    code = (
        f"import sys; from reluscope import figures; figures.find({kind!r})\n"
        "rooms = [m for name, m in sys.modules.items() if name.startswith('reluscope.figures.')]\n"
        "print(*sorted(room.__file__ for room in rooms), sep='\\n')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    room = Path(figures.__file__).parent
    assert result.stdout.split() == sorted(str(path) for path in figures.source_files(kind) if path.parent == room)


def test_two_saves_hold_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["figure.png", "figure.pdf"]
    first, second, third = (tmp_path / folder for folder in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    figure = small_figure()
    figures.save(figure, [first / name for name in names])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")  # another day
    figures.save(figure, [second / name for name in names])
    figures.save(small_figure(), [str(third / name) for name in names])
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert (first / name).read_bytes() == (third / name).read_bytes()
        assert b"Matplotlib" not in (first / name).read_bytes()  # nor its version
    assert (first / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (first / "figure.pdf").read_bytes().startswith(b"%PDF")


TITLES = ("$5 and $6", "$x^2$", "$\\frac{1}{$", "a_$b^", "100 % {x} \\alpha", "\\$")


@pytest.mark.parametrize("title", TITLES)
def test_titles_are_drawn_as_they_are_written(title: str, tmp_path: Path) -> None:
    """Matplotlib takes what stands between dollars for mathematics, and fails where it is none."""
    step, stage = np.array([0, 4]), np.array([0, 1])

    def series(*classes: str) -> MeasureSeries:
        shape = (2, 2, len(classes)) if classes else (2, 2)
        return MeasureSeries("entropy", np.ones(shape), step, step / 4, ["a", "b"], stage, None, list(classes) or None)

    moments = [{"step": 0, "title": title}]
    given = {"runs": {"x": title}, "measures": ["entropy"], "title": title}
    plain, per_class = {"x": {"entropy": [series()]}}, {"x": {"entropy": [series(title, "other")]}}
    drawn = {
        "rows": figures.find("heatmaps").draw(plain, **given),
        "columns": figures.find("heatmaps").draw(plain, **given, measures_as="columns"),
        "profiles": figures.find("profiles").draw(plain, **given, columns={title: ["x"]}, moments=moments),
        "classes": figures.find("classes").draw(per_class, **given, moments=moments),
    }
    for kind, figure in drawn.items():
        figures.save(figure, [tmp_path / f"{kind}.png", tmp_path / f"{kind}.pdf"])
        ours = [text for text in figure.findobj(Text) if textwrap.fill(title, 40) in text.get_text()]
        assert len(ours) >= {"profiles": 3, "classes": 4}.get(kind, 2)
        assert not any(text.get_parse_math() for text in ours)


def test_png_has_print_resolution(tmp_path: Path) -> None:
    figure = small_figure()
    figures.save(figure, [tmp_path / "figure.png"])
    width = int.from_bytes((tmp_path / "figure.png").read_bytes()[16:20])
    assert width == pytest.approx(300 * figure.get_figwidth(), abs=1)


def test_other_formats_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a path ending in \.png or \.pdf, but got .*figure\.jpg"):
        figures.save(small_figure(), [tmp_path / "figure.png", tmp_path / "figure.jpg"])
    assert list(tmp_path.iterdir()) == []


def test_drawing_imports_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys; from reluscope import figures; [figures.find(kind) for kind in figures.KINDS]\n"
        "print([name for name in ('torch', 'matplotlib.pyplot') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
