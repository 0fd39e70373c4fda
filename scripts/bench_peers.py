"""The side of scripts/bench that runs in its Python environment: makes models and runs peers.

    bench_peers.py models|openvino|onnxruntime|compare WORK
    bench_peers.py time|start WORK ENGINE TOWER --batch 1 --tokens 77 --threads 2 --seconds 5

Each prints one line of JSON on standard output.
"""
import argparse
import importlib
import json
import pathlib
import sys
import time

TOWERS = ("image", "text")
CALIBRATION_SAMPLES = 16
# The file of each peer; for OpenVINO the precision of what is not integer, None: its own choice.
PEERS = {
    "openvino-int8": ("{}.openvino-int8.xml", None),
    # The first takes bf16 for what is not integer where there is bf16, which is not always faster.
    "openvino-int8-f32hint": ("{}.openvino-int8.xml", "f32"),
    "openvino-bf16": ("{}.onnx", "bf16"),
    "openvino-f32": ("{}.onnx", "f32"),
    "onnxruntime-int8-dynamic": ("{}.dynamic-int8.onnx", None),
    "onnxruntime-int8-static": ("{}.static-int8.onnx", None),
    "onnxruntime-f32": ("{}.onnx", None),
}


def make_models(work):
    """The weights and everything made of them without a peer's help."""
    import numpy as np
    import bench_model as model
    wanted = [work / "checkpoint" / "tf_model.h5", work / "image.onnx", work / "text.onnx"]
    if not all(path.exists() for path in wanted):
        weights = model.random_weights()
        model.write_checkpoint(work / "checkpoint", weights)
        for tower in TOWERS:
            model.write_onnx(work / f"{tower}.onnx", tower, weights)
    if not (work / "pictures" / "pairs.csv").exists():
        model.write_pictures(work / "pictures")
    for tower in TOWERS:
        for name, batch in (("compare", 4), ("start", 1)):
            path = work / f"{name}-{tower}.npy"
            if not path.exists():
                model.write_tensors(path.with_suffix(".h5"), tower, batch)
                with model.replacing(path) as beside, open(beside, "wb") as file:
                    np.save(file, model.inputs(tower, batch))


def quantize_openvino(work):
    import bench_model as model
    import nncf
    import openvino
    for tower in TOWERS:
        path = work / f"{tower}.openvino-int8.xml"
        if path.exists():
            continue
        samples = [model.inputs(tower, 1, seed=100 + i) for i in range(CALIBRATION_SAMPLES)]
        quantized = nncf.quantize(
            openvino.Core().read_model(work / f"{tower}.onnx"), nncf.Dataset(samples),
            model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION_SAMPLES)
        beside = work / f"part-{path.name}"
        openvino.save_model(quantized, beside)
        beside.with_suffix(".bin").replace(path.with_suffix(".bin"))
        beside.replace(path)


def quantize_onnxruntime(work):
    import bench_model as model
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Samples(quantization.CalibrationDataReader):
        def __init__(self, tower):
            self.samples = ({"x": model.inputs(tower, 1, seed=100 + i)}
                            for i in range(CALIBRATION_SAMPLES))

        def get_next(self):
            return next(self.samples, None)

    for tower in TOWERS:
        dynamic, static = work / f"{tower}.dynamic-int8.onnx", work / f"{tower}.static-int8.onnx"
        if dynamic.exists() and static.exists():
            continue
        clean = work / f"{tower}.clean.onnx"
        quant_pre_process(str(work / f"{tower}.onnx"), str(clean), skip_symbolic_shape=True)
        with model.replacing(dynamic) as path:
            quantization.quantize_dynamic(
                str(clean), str(path), per_channel=True, weight_type=quantization.QuantType.QInt8)
        with model.replacing(static) as path:
            quantization.quantize_static(
                str(clean), str(path), Samples(tower), per_channel=True,
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm", "Conv"])
        clean.unlink()


class Unavailable(Exception):
    """Why a peer cannot run here."""


def opened(work, engine, tower, batch, threads):
    """A function from an input to embeddings, at a fixed batch, set up as its makers advise."""
    name, cached, _ = engine.partition("+cache")
    file, precision = PEERS[name]
    path = work / file.format(tower)
    if not path.exists():
        raise Unavailable(f"{path.name} was not prepared")
    if name.startswith("openvino"):
        extents = [3, 224, 224] if tower == "image" else [77]
        return opened_openvino(path, precision, [batch, *extents], threads,
                               work / "openvino-cache" if cached else None)
    return opened_onnxruntime(path, threads)


def imported(engine):
    """Imports what `opened` needs, which is no part of loading a model."""
    importlib.import_module(engine.split("-")[0])


def opened_openvino(path, precision, shape, threads, cache):
    import openvino
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unavailable("this processor has no bf16 arithmetic")
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    if cache:
        settings["CACHE_DIR"] = str(cache)
    network = core.read_model(path)
    # Shapes are fixed, as in a program that always runs the same batch.
    network.reshape(shape)
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda x: request.infer([x], share_inputs=True)[0]


def opened_onnxruntime(path, threads):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def time_engine(work, engine, tower, batch, tokens, threads, seconds):
    """Medians and memory, under the names that `clipc bench --json` has."""
    import bench_model as model
    import statistics
    x = model.inputs(tower, batch, tokens or model.CONTEXT)
    imported(engine)
    loaded_from = time.perf_counter()
    run = opened(work, engine, tower, batch, threads)
    first_from = time.perf_counter()
    run(x)
    first_to = time.perf_counter()
    for _ in range(2):
        run(x)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return {"median_ms": 1e3 * statistics.median(times), "min_ms": 1e3 * min(times),
            "load_ms": 1e3 * (first_from - loaded_from), "first_ms": 1e3 * (first_to - first_from),
            "peak_rss_bytes": peak_memory()}


def peak_memory():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def start_engine(work, engine, tower, threads):
    """One embedding, as soon as may be."""
    import numpy as np
    x = np.load(work / f"start-{tower}.npy")
    imported(engine)
    from_here = time.perf_counter()
    y = opened(work, engine, tower, 1, threads)(x)
    return {"load_and_first_ms": 1e3 * (time.perf_counter() - from_here), "width": y.shape[-1]}


def compare(work, threads=2):
    """The least cosine of every engine's embeddings to those of ONNX Runtime in float32 (or
    OpenVINO), and how much those of different inputs differ."""
    import h5py
    import numpy as np
    report = {}
    for tower in TOWERS:
        x, all_of = np.load(work / f"compare-{tower}.npy"), {}
        for engine in PEERS:
            try:
                imported(engine)
                all_of[engine] = opened(work, engine, tower, len(x), threads)(x).copy()
            except (Unavailable, ImportError):
                pass
        for engine in ("clipc-int8", "clipc-bf16", "clipc-f32"):
            with h5py.File(work / f"compare-{tower}.{engine}.h5") as file:
                all_of[engine] = file[f"{tower}_embeds"][:]
        references = [name for name in ("onnxruntime-f32", "openvino-f32") if name in all_of]
        reference = all_of[references[0] if references else "clipc-f32"]
        report[tower] = {name: float((y * reference).sum(1).min()) for name, y in all_of.items()}
        among = reference @ reference.T
        report[tower]["different inputs"] = float(among[~np.eye(len(x), dtype=bool)].max())
    return report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("engine", nargs="?")
    parser.add_argument("tower", nargs="?")
    for name, kind in (("batch", int), ("tokens", int), ("threads", int), ("seconds", float)):
        parser.add_argument(f"--{name}", type=kind)
    given = parser.parse_args()
    made = {"models": make_models, "openvino": quantize_openvino,
            "onnxruntime": quantize_onnxruntime, "compare": compare}
    # Libraries print to standard output too; the answer alone goes there.
    answer_to, sys.stdout = sys.stdout, sys.stderr
    try:
        if given.what in made:
            answer = made[given.what](given.work)
        elif given.what == "time":
            answer = time_engine(given.work, given.engine, given.tower, given.batch, given.tokens,
                                 given.threads, given.seconds)
        else:
            answer = start_engine(given.work, given.engine, given.tower, given.threads)
    except Unavailable as why:
        answer = {"unavailable": str(why)}
    except ImportError as why:
        answer = {"unavailable": f"{why.name or why} is not installed"}
    print(json.dumps(answer), file=answer_to, flush=True)


if __name__ == "__main__":
    main()
