#!/usr/bin/env python3
"""Checks that targets depend only on what stands below them, and sources import only that.

    python3 scripts/floors.py
"""
import pathlib
import re
import sys

FLOORS = [
    {"CKernels", "CClip", "COpenBLAS", "CHDF5", "CSHA256", "CZstd", "CJPEG", "CPNG"},
    {"TensorCore", "Preprocessing", "ModelFormat", "Charts"},
    {"GraphIR", "Datasets", "ClipRuntime"},
    {"Operators"},
    {"Execution", "Checkpoints", "Evaluation"},
    {"Training"},
    {"Passes", "Export"},
    {"clipc", "clipc-bench", "clipc-swift-example"},
]
# The interpreter must be able to leave for a device with nothing but itself.
RUNTIME = {"ModelFormat", "ClipRuntime"}
RUNTIME_IMPORTS = {"ModelFormat", "CKernels", "CClip"}
NO_FOUNDATION = {"Charts", "TensorCore", "GraphIR", "Preprocessing", "ModelFormat", "ClipRuntime"}

root = pathlib.Path(__file__).resolve().parent.parent
floor = {name: level for level, names in enumerate(FLOORS) for name in names}
faults = []
for folder in sorted((root / "Sources").iterdir()):
    target = folder.name
    if target not in floor:
        continue
    for source in folder.rglob("*.swift"):
        for name in re.findall(r"^(?:\w+ )*import (?:\w+ )?(\w+)", source.read_text(), re.M):
            where = f"{source.relative_to(root)} imports {name}"
            if name in floor and name != target and floor[name] > floor[target]:
                faults.append(f"{where}, which stands above it")
            if name == "Foundation" and target in NO_FOUNDATION:
                faults.append(f"{where}, which its floor does without")
            if target in RUNTIME and name not in RUNTIME_IMPORTS:
                faults.append(f"{where}; the runtime depends on nothing else")
for fault in faults:
    print(fault, file=sys.stderr)
print(f"floors: {len(floor)} targets, {len(faults)} faults")
sys.exit(1 if faults else 0)
