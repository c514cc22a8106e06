"""Python and the program are one engine: the same numbers on the same seed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import FEW, numbers, people, whole_torch

from tweedie import Run, TweedieDensity

MODELS = Path(__file__).resolve().parents[2] / "models"


def tweedie(*arguments, code=0):
    command = [sys.executable, "-m", "tweedie", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


def write(frame, path):
    with pa.OSFile(str(path), "wb") as out:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        with pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize("kind", ["single", "mixed"])
def test_fit_score_and_sample_are_the_programs(kind, tmp_path):
    if kind == "single":
        frame = pd.DataFrame(numbers().astype(np.float32), columns=["a", "b", "c"])
    else:
        frame = people()
    write(frame, tmp_path / "rows.arrow")
    tweedie(
        "train", "--data", tmp_path / "rows.arrow", "--out", tmp_path / "run", "--split", "0.9,0.1,0",
        "--iterations", "20", "--set", "model.network.width=16", "--set", "model.network.depth=2",
        "--seed", "7", "--quiet",
    )  # fmt: skip
    model = TweedieDensity(**FEW, random_state=7).fit(frame)
    weights = "model.safetensors"
    assert (model.run_.path / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()

    tweedie(
        "score",
        tmp_path / "run",
        tmp_path / "rows.arrow",
        "-o",
        tmp_path / "scores.csv",
        "--quiet",
        "--seed",
        "3",
    )
    scored = pd.read_csv(tmp_path / "scores.csv", float_precision="round_trip")
    values, errors = model.score_samples(frame, return_std=True, seed=3)
    np.testing.assert_array_equal(values, scored["log_likelihood"])
    np.testing.assert_array_equal(errors, scored["std_error"])

    tweedie(
        "sample", tmp_path / "run", "-n", "40", "--seed", "5", "-o", tmp_path / "samples.parquet", "--quiet"
    )
    samples = pd.read_parquet(tmp_path / "samples.parquet")
    own = model.sample(40, seed=5)
    for name in frame:
        np.testing.assert_array_equal(
            own[name].astype(str), samples[name].astype(own[name].dtype).astype(str)
        )


def test_the_programs_runs_are_loaded(tmp_path):
    write(people(), tmp_path / "rows.arrow")
    tweedie(
        "train", "--data", tmp_path / "rows.arrow", "--out", tmp_path / "run", "--iterations", "5", "--quiet"
    )
    run = Run.load(tmp_path / "run")
    assert run.config["train"]["iterations"] == 5 and run.status["iteration"] == 5
    found = json.loads(
        tweedie("evaluate", tmp_path / "run", "--metrics", "nll", "--steps", "10", "--json", "--quiet").stdout
    )
    own = run.evaluate(metrics=["nll"], steps=[10])
    assert own["results"] == found["results"]


def test_images_are_the_programs(tmp_path):
    run = Run.load(MODELS / "fashion-mnist")
    images = run.sample(4, steps=5, seed=2)
    assert images.shape == (4, 28, 28) and images.dtype == np.uint8
    tweedie(
        "sample",
        MODELS / "fashion-mnist",
        "-n",
        "4",
        "--steps",
        "5",
        "--seed",
        "2",
        "-o",
        tmp_path / "four.npy",
        "--quiet",
    )
    np.testing.assert_array_equal(images, np.load(tmp_path / "four.npy"))
    scores = run.score_samples(images, steps=5, draws=1)
    tweedie(
        "score", MODELS / "fashion-mnist", tmp_path / "four.npy", "--steps", "5", "--draws", "1",
        "-o", tmp_path / "scores.csv", "--quiet",
    )  # fmt: skip
    np.testing.assert_array_equal(
        scores, pd.read_csv(tmp_path / "scores.csv", float_precision="round_trip")["log_likelihood"]
    )
    with pytest.raises(ValueError, match=r"images are \[n, 28, 28\], found \[4, 27, 28\]"):
        run.score_samples(images[:, :27])
    with pytest.raises(ValueError, match="bytes"):
        run.score_samples(images / 255.0)


def test_the_entry_point_has_the_programs_exit_codes():
    assert "Usage: tweedie" in tweedie("--help").stdout
    assert "error:" in tweedie("score", "nowhere", "rows.csv", code=2).stderr
    assert "Usage" in tweedie("no-such-command", code=2).stderr


def test_the_program_starts_several_processes(of_numbers, tmp_path):
    of_numbers.save(tmp_path / "run")
    write(pd.DataFrame(numbers(90), columns=of_numbers.run_.names), tmp_path / "rows.arrow")
    score = ["score", tmp_path / "run", tmp_path / "rows.arrow", "--steps", 5, "--batch-size", 20]
    tweedie(*score, "-o", tmp_path / "two.csv", "--processes", 2)
    tweedie(*score, "-o", tmp_path / "one.csv")
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


@pytest.mark.skipif(not whole_torch(), reason="torchrun is of all of torch")
def test_torchs_launcher_starts_several_processes(tmp_path):
    write(pd.DataFrame(numbers(), columns=["a", "b", "c"]), tmp_path / "rows.arrow")
    run, rows = tmp_path / "run", tmp_path / "rows.arrow"
    program = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", sys.executable]

    def launched(*arguments):
        command = [sys.executable, *program, "-m", "tweedie", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    few = ["--iterations", 20, "--set", "model.network.width=16", "--quiet"]
    assert launched("train", "--data", rows, "--out", run, *few).split() == [str(run)], "one speaks"
    score = ["score", run, rows, "--steps", 5, "--batch-size", 40, "--quiet"]
    launched(*score, "-o", tmp_path / "two.csv")
    tweedie(*score, "-o", tmp_path / "one.csv")
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
