#!/usr/bin/env python3
"""Times clipc and its peers; scripts/bench builds clipc and calls it. Standard library alone: peers
live in a Python environment of their own, each measurement in a process of its own.

    scripts/bench prepare WORK [--python PYTHON] [--clipc PROGRAM]
    scripts/bench run WORK [--threads 2] [--seconds 5] [--rounds 3] [--towers image,text]
        [--batches 1,32] [--tokens 77,8] [--peers openvino-int8,...] [--json FILE]
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import bench_report
from bench_prepare import OURS, Prepared
from bench_process import Broken, answer, run, say, started

PEERS = ("openvino-int8", "openvino-int8-f32hint", "openvino-bf16", "openvino-f32",
         "onnxruntime-int8-dynamic", "onnxruntime-int8-static", "onnxruntime-f32")


class Bench:
    """Measurements of what `prepare` made in a folder."""

    def __init__(self, given):
        self.given, self.work, self.clipc = given, given.work.resolve(), given.clipc
        self.prepared = Prepared(self.work, self.clipc, given.python)

    def measure(self):
        given, cases = self.given, []
        for engine in OURS:
            self.model(engine)
        for tower in given.towers:
            for tokens in given.tokens if tower == "text" else [None]:
                for batch in given.batches:
                    cases.append({"tower": tower, "batch": batch, "tokens": tokens})
        engines = [*OURS, *given.peers]
        results = {"machine": bench_report.machine(), "threads": given.threads,
                   "rounds": given.rounds, "seconds": given.seconds, "skipped": {},
                   "versions": self.versions(), "cases": [], "start": []}
        try:
            self.take(engines, cases, results)
        except KeyboardInterrupt:
            say("interrupted; what there is:")
            results["interrupted"] = True
        print(bench_report.report(results))
        if given.json:
            given.json.write_text(json.dumps(results, indent=1) + "\n")
        if results.get("interrupted"):
            raise KeyboardInterrupt

    def take(self, engines, cases, results):
        """Adds the measurements to `results` as they are taken."""
        skipped = results["skipped"]
        for case in cases:
            say(", ".join(f"{key} {value}" for key, value in case.items() if value is not None))
            taken = {}
            results["cases"].append({**case, "engines": taken})
            self.in_turn(engines, lambda engine: self.time(engine, case), taken, skipped)
        for tower in self.given.towers:
            say(f"start, {tower}")
            starters = [name for name in self.starters(engines, tower) if name not in skipped]
            taken = {}
            results["start"].append({"tower": tower, "engines": taken})
            # Files come into the page cache, compiled models into that of OpenVINO.
            for engine in starters:
                self.try_start(engine, tower)
            self.in_turn(starters, lambda engine: self.start(engine, tower), taken, skipped)

    def starters(self, engines, tower):
        """The ways to start every engine."""
        for engine in engines:
            yield engine
            if engine == "openvino-int8":
                yield f"{engine}+cache"
            elif engine == "clipc-int8" and tower == "image" and self.given.threads == 2:
                if (self.work / "c-example").exists():  # of two threads
                    yield f"{engine}+c"

    def in_turn(self, engines, measure, taken, skipped):
        """Rounds over all engines, A B C A B C; `taken` is engine to its measurements."""
        for round_index in range(self.given.rounds):
            for engine in engines:
                if engine in skipped:
                    continue
                try:
                    measured = measure(engine)
                    if "unavailable" in measured:
                        raise Broken(measured["unavailable"])
                except Broken as error:
                    skipped[engine] = str(error)
                    taken.pop(engine, None)
                    say(f"  {engine} is left out: {error}")
                    continue
                taken.setdefault(engine, []).append(measured)
                say(f"  round {round_index + 1}  {engine:26}"
                    + "  ".join(f"{key} {value:.2f}" for key, value in measured.items()
                                if key in ("median_ms", "wall_ms")))

    def time(self, engine, case):
        given, tokens = self.given, case["tokens"]
        options = ["--batch", case["batch"], "--threads", given.threads, "--seconds", given.seconds]
        if tokens:
            options += ["--tokens", tokens]
        if engine not in OURS:
            return answer(self.prepared.peers("time", self.work, engine, case["tower"], *options))
        full = answer([self.clipc, "bench", self.model(engine), "--tower", case["tower"], "--json",
                       *options])
        wanted = ("median_ms", "min_ms", "load_ms", "first_ms", "peak_rss_bytes", "kernel_set")
        return {key: full[key] for key in wanted}

    def model(self, engine):
        path = self.work / f"{engine.removeprefix('clipc-')}.clipc"
        if not path.exists():
            raise Broken(f"{path} is missing; scripts/bench prepare {self.work} makes it")
        return path

    def try_start(self, engine, tower):
        with contextlib.suppress(Broken):
            self.start(engine, tower)

    def start(self, engine, tower):
        """From the start of a process until it has its first embedding, and its peak memory.
        A peer says when; clipc's processes end then."""
        threads = ["--threads", self.given.threads]
        name, _, way = engine.partition("+")
        if engine not in OURS and way != "c":
            command = self.prepared.peers("start", self.work, engine, tower, *threads)
        elif way == "c":
            command = [self.work / "c-example", self.model(name)]
        else:
            command = [self.clipc, "encode", self.model(name), "--tensors",
                       self.work / f"start-{tower}.h5", "-o", self.work / "start-output.h5",
                       *threads]
        begun = time.perf_counter()
        with tempfile.TemporaryFile() as errors, started(
                command, stdout=subprocess.PIPE, stderr=errors) as process:
            said = process.stdout.readline()
            if name not in OURS:
                wall = time.perf_counter() - begun
            process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            if name in OURS:
                wall = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                raise Broken(lines[-1] if lines else f"exit code {process.returncode}")
        taken = {"wall_ms": 1e3 * wall, "peak_rss_bytes": usage.ru_maxrss * 1024}
        if name not in OURS:
            return {**taken, **json.loads(said)}
        inside = answer([self.clipc, "bench", self.model(name), "--tower", tower, "--json",
                         "--seconds", 0.01, *threads])
        return {**taken, "load_and_first_ms": inside["load_ms"] + inside["first_ms"]}

    def versions(self):
        code = ("import importlib.metadata as m, json\n"
                "found = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
                "print(json.dumps({n: found[n] for n in ('openvino', 'nncf', 'onnxruntime')"
                " if n in found}))")
        peers = answer([self.prepared.python, "-c", code])
        return {"clipc": run([self.clipc, "--version"]).strip(), **peers}


def words(text):
    return [word for word in text.split(",") if word]


def numbers(text):
    values = [int(word) for word in words(text)]
    if not values or min(values) < 1:
        raise ValueError
    return values


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("what", choices=("prepare", "run"))
    parser.add_argument("work", type=pathlib.Path, help="a folder for models and measurements")
    parser.add_argument("--clipc", required=True, type=pathlib.Path, help="the program to time")
    parser.add_argument("--python", help="an interpreter that has the peers already")
    parser.add_argument("--example-builder", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5, help="the length of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--towers", type=words, default=["image", "text"])
    parser.add_argument("--batches", type=numbers, default=[1, 32])
    parser.add_argument("--tokens", type=numbers, default=[77, 8])
    parser.add_argument("--peers", type=words, default=list(PEERS), help=",".join(PEERS))
    parser.add_argument("--json", type=pathlib.Path, help="every measurement goes here")
    given = parser.parse_args()
    given.clipc = given.clipc.resolve()
    for name, allowed in (("towers", ("image", "text")), ("peers", PEERS)):
        for word in getattr(given, name):
            if word not in allowed:
                parser.error(f"--{name}: {word} is none of {', '.join(allowed)}")
    if max(given.tokens) > 77 or min(given.tokens) < 3:
        parser.error("--tokens lie in 3...77")
    if given.threads < 1 or given.rounds < 1 or given.seconds <= 0:
        parser.error("--threads, --rounds and --seconds are positive")
    return given


def main():
    for number in (signal.SIGINT, signal.SIGTERM):  # even where a shell had the first ignored
        signal.signal(number, signal.default_int_handler)
    given = arguments()
    try:
        if given.what == "prepare":
            prepared = Prepared(given.work.resolve(), given.clipc, given.python)
            prepared.make(given.example_builder)
        else:
            Bench(given).measure()
    except KeyboardInterrupt:
        sys.exit(130)
    except (Broken, OSError) as error:
        sys.exit(f"scripts/bench: {error}")


if __name__ == "__main__":
    main()
