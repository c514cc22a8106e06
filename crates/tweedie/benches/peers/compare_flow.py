#!/usr/bin/env python3
"""Tweedie's likelihoods by the probability-flow ODE against PyTorch's with torchdiffeq, run in turn on one machine.

    cargo bench --bench flow --no-run                 (prints the binary's path)
    $PEERS/bin/python benches/peers/compare_flow.py target/release/deps/flow-HASH RUN DATA --rows 1000 --rounds 3

The same model, rows, probes and tolerance (flow.py). The ratio is the peer's median over rounds divided by tweedie's: above 1,
tweedie is faster; in brackets the smallest and largest ratio of any one round. On a machine that others use, take --threads 1
--clock cpu.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from compare import HERE, lines, ratio


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="target/release/deps/flow-HASH")
    parser.add_argument("run", help="a run of tweedie")
    parser.add_argument("data", help="rows to score")
    parser.add_argument("--rows", type=int, default=1000, help="the first so many")
    parser.add_argument("--probes", type=int, default=0, help="Rademacher probes per row; 0: the exact divergence")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="rtol and atol")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()

    common = ["--tolerance", options.tolerance, "--threads", options.threads, "--clock", options.clock]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        values = pathlib.Path(folder) / "values.safetensors"
        for done in range(options.rounds):
            given = ["--run", options.run, "--data", options.data, "--rows", options.rows, "--probes", options.probes]
            ours += lines([options.binary, *given, "--out", values, *common])
            theirs += lines([sys.executable, HERE / "flow.py", options.run, values, *common])
            print(f"round {done + 1} of {options.rounds}", file=sys.stderr, flush=True)
    seconds = [[record["seconds"] for record in records] for records in (ours, theirs)]
    print(f"| {options.rows} rows, {options.threads} threads, {options.clock} clock | tweedie | PyTorch, torchdiffeq | ratio |")
    print("|---|---|---|---|")
    print(f"| seconds | {' | '.join(f'{statistics.median(s):.1f}' for s in seconds)} | {ratio(*reversed(seconds))} |")
    print(f"| evaluations per row | {ours[0]['evaluations']:.0f} | {theirs[0]['evaluations']} | |")
    print(json.dumps(dict(gap=theirs[0]["gap"], flagged=ours[0]["flagged"])))


if __name__ == "__main__":
    main()
