#!/usr/bin/env python3
"""Tweedie's training steps against PyTorch's, run in turn on one machine; prints ratios of medians as Markdown.

    cargo bench --bench against_peers --no-run        (prints the binary's path)
    $PEERS/bin/python benches/peers/compare.py target/release/deps/against_peers-HASH --rounds 7

A round times tweedie once and the peer once per Adam, each by the median over a few bouts. The ratio is the peer's
median over rounds divided by tweedie's: above 1, tweedie is faster. In brackets: the smallest and largest ratio of
any one round. `100 trials` is tweedie training 100 networks, in groups of replicates shared out among the threads, against
100 times one PyTorch training; tweedie's is extrapolated from --trial-steps of the 500 steps, PyTorch's from two trainings. `cost of LM` is tweedie's LM step over its DSM step at equal
network evaluations; of the U-Net, whose peer is diffusers' with the same layers, DSM is the step without a rank. On a machine that others use, take --threads 1 --clock cpu.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def lines(command):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"compare: {' '.join(map(str, command))} failed")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def key(record):
    if record["what"] == "trial":
        return "100 trials of 500 steps, s"
    sizes = [f"{name} = {record[name]}" for name in ("d", "rank", "head") if record.get(name) is not None]
    return ", ".join([f"{record['what']} step", *sizes]) + ", ms"


def value(record):
    return record["ms_per_step"] if "ms_per_step" in record else 100 * record["s_per_training"]


def ratio(over, under):
    each = [a / b for a, b in zip(over, under)]
    return f"{statistics.median(over) / statistics.median(under):.2f} [{min(each):.2f}, {max(each):.2f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="target/release/deps/against_peers-HASH")
    parser.add_argument("--what", default="mlp,dsm,lm,trial")
    parser.add_argument("--dims", default="2,10,64")
    parser.add_argument("--ranks", default="0,4")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3, help="bouts per round")
    parser.add_argument("--steps", type=int, default=30, help="steps per bout")
    parser.add_argument("--trial-steps", type=int, default=50, help="steps of the 100 trials, of 500")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()

    steps = options.what.replace("trial", "").strip(",")
    common = ["--dims", options.dims, "--ranks", options.ranks, "--repeats", options.repeats]
    common += ["--threads", options.threads, "--clock", options.clock]
    ours, peer = {}, {"default": {}, "fused": {}}
    for done in range(options.rounds):
        records = []
        if steps:
            records += lines([options.binary, "--what", steps, "--steps", options.steps, *common])
        if "trial" in options.what:
            trial = lines([options.binary, "--what", "trial", "--steps", options.trial_steps, *common])
            records += [{**r, "s_per_training": r["s_per_training"] * 500 / options.trial_steps} for r in trial]
        for record in records:
            ours.setdefault(key(record), []).append(value(record))
        theirs = []
        if options.what != "unet":
            what = options.what.replace("unet", "").strip(",")
            command = [sys.executable, HERE / "mlp_step.py", "--what", what, "--steps", options.steps, "--trainings", 2]
            theirs += lines([*command, *common])
        if "unet" in options.what:
            command = [sys.executable, HERE / "unet_step.py", "--steps", options.steps, "--repeats", options.repeats]
            theirs += lines([*command, "--threads", options.threads, "--clock", options.clock])
        for record in theirs:
            peer[record["adam"]].setdefault(key(record), []).append(value(record))
        print(f"round {done + 1} of {options.rounds}", file=sys.stderr, flush=True)

    print(f"| {options.threads} threads, {options.clock} clock | tweedie | PyTorch | PyTorch, fused Adam | ratio | ratio to fused |")
    print("|---|---|---|---|---|---|")
    for name, times in ours.items():
        others = [peer[kind].get(name) for kind in ("default", "fused")]
        if None in others:
            continue
        medians = [f"{statistics.median(t):.2f}" for t in (times, *others)]
        print(f"| {name} | {' | '.join(medians)} | {' | '.join(ratio(o, times) for o in others)} |")
    for d in options.dims.split(","):
        for rank in options.ranks.split(","):
            dsm, lm = ours.get(f"dsm step, d = {d}, ms"), ours.get(f"lm step, d = {d}, rank = {rank}, ms")
            if dsm and lm:
                print(f"cost of LM, d = {d}, rank = {rank}: {ratio(lm, dsm)}")
    for what in ("unet step", "unet sampling step"):
        for name, lm in ours.items():
            if name.startswith(f"{what}, rank"):
                print(f"cost of LM, {name.removesuffix(', ms')}: {ratio(lm, ours[f'{what}, ms'])}")


if __name__ == "__main__":
    main()
