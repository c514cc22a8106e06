#!/usr/bin/env python3
"""Writes tests/reference/numpy/*, arrays of images as NumPy saves them, for tests/images.rs.

    python3 -m venv peers && peers/bin/pip install numpy==2.4.6
    peers/bin/python tests/reference/images.py

Pixels count up in the order of the array's axes.
"""

import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent / "numpy"


def count(*shape):
    return np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)


def main():
    HERE.mkdir(exist_ok=True)
    np.save(HERE / "grey.npy", count(2, 3, 4))
    np.save(HERE / "grey-last.npy", count(2, 3, 4, 1))
    np.save(HERE / "colours-last.npy", count(2, 3, 4, 3))
    np.save(HERE / "colours-first.npy", count(2, 3, 3, 4))
    np.save(HERE / "fortran.npy", np.asfortranarray(count(2, 3, 4, 3)))
    np.save(HERE / "table.npy", count(3, 2))
    np.save(HERE / "floats.npy", count(2, 3, 4).astype(np.float32))
    np.save(HERE / "four-channels.npy", count(2, 5, 4, 4))
    np.savez(HERE / "labelled.npz", images=count(3, 2, 2), labels=np.array([7, 2, 7]), scale=np.float32(0.5))
    np.savez_compressed(
        HERE / "compressed.npz",
        x_test=count(1, 2, 2, 3), y_test=np.array([[0]]),
        x_train=count(3, 2, 2, 3), y_train=np.array([[5], [9], [5]], dtype=np.uint8),
    )
    np.savez(HERE / "positional.npz", count(2, 3, 4))
    np.savez(HERE / "two.npz", a=count(1, 2, 2), b=count(1, 2, 2))
    np.savez(HERE / "short-labels.npz", images=count(3, 2, 2), labels=np.array([1, 2]))
    np.savez(HERE / "statistics.npz", mu=np.zeros(4), sigma=np.eye(4))


main()
