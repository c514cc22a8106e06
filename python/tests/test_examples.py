"""The examples and the README's lines run as they stand."""

import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import people, whole_torch

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "python" / "examples").glob("*.py"))


def needs_torch():
    if not whole_torch():
        pytest.skip("the whole of torch is not installed")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example, capsys):
    if example.stem == "own_model":
        needs_torch()
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


def test_the_readmes_lines_run(monkeypatch, tmp_path):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    frame = people().rename(columns={"smokes": "smoker"})
    holes = frame[:20].drop(columns="visits")
    new = frame.dropna()[:20]
    for block in blocks:
        if "import torch" in block or "likelihood(" in block:
            if not whole_torch():
                continue
        names = {"frame": frame, "new": new, "holes": holes, "np": np, "pd": pd}
        exec(block.replace("seconds=60", "seconds=4"), names)
