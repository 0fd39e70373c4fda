"""What scripts/bench prepares: a Python environment with the peers, and models."""
import json
import os
import pathlib
import shutil
import sys

import bench_report
from bench_process import Broken, answer, run, say

HERE = pathlib.Path(__file__).resolve().parent
OURS = ("clipc-int8", "clipc-bf16", "clipc-f32")
REQUIRED = ("numpy==2.4.6", "h5py==3.16.0", "onnx==1.23.2")
OPTIONAL = {"openvino": ("openvino==2026.4.1", "nncf==3.4.0"),
            "onnxruntime": ("onnxruntime==1.31.1",)}


class Prepared:
    """A folder of models, and the interpreter that runs the peers: `python`, that of the last
    preparation, or one made here."""

    def __init__(self, work, clipc, python=None):
        self.work, self.clipc, self.given_python = work, clipc, python
        kept = work / "python"
        if python:
            self.python = python
        elif kept.exists():
            self.python = kept.read_text().strip()
        else:
            self.python = work / "venv" / "bin" / "python"

    def peers(self, *arguments):
        """A command of bench_peers.py."""
        return [self.python, HERE / "bench_peers.py", *arguments]

    def required(self, step):
        """The answer of a step without which there is nothing to measure."""
        said = answer(self.peers(step, self.work))
        if said and "unavailable" in said:
            raise Broken(f"{self.python}: {said['unavailable']}")
        return said

    def make(self, example_builder=None):
        """Everything that is not there yet."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.environment()
        say("weights, checkpoint and ONNX files")
        self.required("models")
        for peer in OPTIONAL:
            say(f"{peer}: int8")
            try:
                made = answer(self.peers(peer, self.work))
                if made:
                    say(f"  left out: {made['unavailable']}")
            except Broken as error:
                say(f"  left out: {error}")
        self.make_ours(example_builder)
        self.compare()

    def make_ours(self, example_builder):
        """Runtime files, where there are none or clipc has been built since."""
        say("clipc: int8, bfloat16 and float32")
        checkpoint, quantized = self.work / "checkpoint", self.work / "int8.h5"
        short = self.work / "bf16.h5"
        pairs = self.work / "pictures" / "pairs.csv"
        for output, command in (
                (quantized, ["quantize", checkpoint, "--activations", "int8", "--data", pairs]),
                (self.work / "int8.clipc", ["export", quantized]),
                (short, ["quantize", checkpoint, "--weights", "bfloat16",
                         "--activations", "bfloat16"]),
                (self.work / "bf16.clipc", ["export", short]),
                (self.work / "f32.clipc", ["export", checkpoint])):
            if not self.is_current(output):
                run([self.clipc, *command, "-o", output])
        example = self.work / "c-example"
        if example_builder and not self.is_current(example):
            say("the C example")
            run([example_builder, self.work / "int8.clipc", "--keep", example])

    def is_current(self, path):
        return path.exists() and path.stat().st_mtime >= self.clipc.stat().st_mtime

    def environment(self):
        """A Python environment with the peers, unless one is given."""
        (self.work / "python").unlink(missing_ok=True)
        if self.given_python:
            self.python = os.path.abspath(shutil.which(self.given_python) or self.given_python)
            (self.work / "python").write_text(f"{self.python}\n")
            return
        self.python = self.work / "venv" / "bin" / "python"
        finished = self.work / "venv" / "finished"
        wanted = json.dumps([REQUIRED, OPTIONAL])
        if finished.exists() and finished.read_text() == wanted:
            return
        say("a Python environment with the peers")
        run([sys.executable, "-m", "venv", "--clear", self.work / "venv"])
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *REQUIRED])
        missing = False
        for peer, packages in OPTIONAL.items():
            try:
                run([*pip, *packages])
            except Broken as error:
                missing = True
                say(f"  {peer} cannot be installed and is left out: {error}")
        if not missing:
            finished.write_text(wanted)

    def compare(self):
        """Holds the embeddings of all engines on the same inputs against each other."""
        for engine in OURS:
            model = self.work / f"{engine.removeprefix('clipc-')}.clipc"
            for tower in ("image", "text"):
                run([self.clipc, "encode", model, "--tensors", self.work / f"compare-{tower}.h5",
                     "-o", self.work / f"compare-{tower}.{engine}.h5"])
        cosines = self.required("compare")
        print("Least cosine of four embeddings to those in float32 of another engine:\n")
        print(bench_report.table(
            ["tower", *cosines["image"]],
            [[tower, *(f"{value:.6f}" for value in row.values())]
             for tower, row in cosines.items()]))
        for tower, row in cosines.items():
            for engine, cosine in row.items():
                if engine.endswith("-f32") and not cosine > 0.9999:
                    raise Broken(f"{engine}, {tower} tower: something else, cosine {cosine}")
        print("\nAll engines in float32 compute the same.")
