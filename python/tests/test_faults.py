"""What goes wrong gets one clear error, and no process is lost."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from conftest import FEW, numbers, people

from tweedie import TweedieDensity


def python(code, **more):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, **more)


def fake_torch(tmp_path, version):
    """A folder on the path in which another torch is installed."""
    info = tmp_path / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_another_torch_is_refused_at_import(tmp_path):
    done = python("import tweedie", env=fake_torch(tmp_path, "2.10.1"))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        'ImportError: tweedie needs torch 2.11, found 2.10.1: pip install "torch==2.11.*"'
    )


def test_no_torch_is_said_at_import():
    code = (
        "import importlib.metadata as m\n"
        "def none(name): raise m.PackageNotFoundError(name)\n"
        "m.version = none\n"
        "import tweedie"
    )
    last = python(code).stderr.strip().splitlines()[-1]
    assert last == 'ImportError: tweedie needs torch 2.11, and there is none: pip install "torch==2.11.*"'


def test_one_libtorch_is_in_the_process():
    code = (
        "import tweedie\n"
        "maps = {line.split()[-1] for line in open('/proc/self/maps') if 'libtorch_cpu' in line}\n"
        "print(len(maps))"
    )
    done = python(code)
    assert done.stdout.strip() == "1", done.stderr


def test_ctrl_c_keeps_what_was_learned():
    code = f"""
import os, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from conftest import numbers
from tweedie import TweedieDensity

def interrupt(event):
    if event["kind"] == "progress" and event["done"] > 3:
        os.kill(os.getpid(), signal.SIGINT)

model = TweedieDensity(seconds=None, steps=10**6, progress=interrupt)
try:
    model.fit(numbers())
except KeyboardInterrupt:
    print("interrupted", model.score_samples(numbers()[:3]).shape, model.run_.status["iteration"] < 10**6)
"""
    done = python(code)
    assert done.stdout.strip() == "interrupted (3,) True", done.stdout + done.stderr


def test_a_fork_goes_on(of_numbers, table):
    expected = of_numbers.score_samples(table[:8])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            same = np.array_equal(of_numbers.score_samples(table[:8]), expected)
            os.write(write, b"same" if same else b"other")
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    deadline = time.monotonic() + 120
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the forked process hangs")
        time.sleep(0.05)
    assert os.read(read, 10) == b"same"
    np.testing.assert_array_equal(of_numbers.score_samples(table[:8]), expected)


def test_two_threads_share_a_model(of_numbers, table):
    expected = [of_numbers.score_samples(table[k : k + 20]) for k in (0, 20)]
    found = [None, None]

    def work(k):
        for _ in range(3):
            found[k] = of_numbers.score_samples(table[20 * k : 20 * k + 20])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    [thread.start() for thread in threads]
    [thread.join(120) for thread in threads]
    for own, other in zip(found, expected):
        np.testing.assert_array_equal(own, other)


def test_others_run_while_a_model_works(of_numbers):
    beats = []
    done = threading.Event()

    def beat():
        while not done.is_set():
            beats.append(time.monotonic())
            time.sleep(0.01)

    thread = threading.Thread(target=beat)
    thread.start()
    of_numbers.score_samples(numbers(2000, seed=5))
    done.set()
    thread.join()
    assert len(beats) > 3


@pytest.mark.parametrize(
    "rows, options, words",
    [
        (lambda: people().assign(city="Bern")[["city"]], {}, "constant"),
        (lambda: numbers(), {"options": {"train.no_such": 3}}, "no_such"),
        (lambda: numbers(), {"options": {"train.batch_size": -3}}, "batch_size"),
        (lambda: numbers(), {"objective": "no-such"}, "give one of lm"),
        (lambda: numbers(), {"rank": 9}, "rank from 0"),
        (lambda: numbers(), {"device": "cuda:9"}, "device"),
        (lambda: numbers(), {"contamination": 2.0}, "contamination"),
        (lambda: numbers()[:1], {}, "n_samples=1"),
    ],
)
def test_what_cannot_be_is_refused(rows, options, words):
    with pytest.raises(ValueError, match=words):
        TweedieDensity(**{**FEW, **options}).fit(rows())


def test_rows_that_do_not_fit_are_refused(of_people, of_numbers, frame):
    with pytest.raises(ValueError, match="features"):
        of_numbers.score_samples(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="height"):
        of_people.score_samples(frame.drop(columns="height"))
    unseen = frame[:3].assign(city=pd.Categorical(["Zug", "Bern", "Genf"]))
    with pytest.raises(ValueError, match="table: row 1, column `city`.*Zug"):
        of_people.score_samples(unseen)
    with pytest.raises(ValueError, match="no_such"):
        of_people.sample(3, given={"no_such": 1})
    with pytest.raises(ValueError, match="unknown field `no_option`"):
        of_people.sample(3, no_option=1)


def test_nothing_is_left_behind(table):
    import tempfile
    from pathlib import Path

    def own():
        return {p for p in Path(tempfile.gettempdir()).glob("*") if p.name.startswith((".tmp", "tweedie-"))}

    before = own()
    model = TweedieDensity(**FEW).fit(table)
    assert model.run_.path.exists()
    path = model.run_.path
    del model
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not path.exists() and own() <= before
