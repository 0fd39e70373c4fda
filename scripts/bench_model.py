"""ViT-B/32 with random weights, one set for all engines: a Hugging Face checkpoint and ONNX files.

Names and layouts of weights are those of `tf_model.h5`: kernels are [in, out], the patch kernel is
[height, width, channels, out].
"""
import contextlib
import json
import os
import pathlib
import struct
import zlib

import numpy as np

IMAGE_SIZE, PATCH_SIZE, CONTEXT, VOCABULARY, EMBEDDING = 224, 32, 77, 49408, 512
START, END = 49406, 49407
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
WIDTHS = {"vision_model": 768, "text_model": 512}
LAYERS, HEAD_WIDTH, EPSILON = 12, 64, 1e-5
PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
WORDS = "a photo of two small red dogs near the old green boat on blue water".split()


@contextlib.contextmanager
def replacing(path):
    """A path to write to, which takes the place of `path` when all went well."""
    beside = pathlib.Path(f"{path}.part")
    yield beside
    os.replace(beside, path)


def random_weights(seed=0):
    """Name to float32 array; activations keep their size from block to block."""
    random, weights = np.random.default_rng(seed), {}

    def put(name, shape, deviation, mean=0.0):
        values = random.standard_normal(shape, dtype=np.float32)
        weights[name] = (values * np.float32(deviation) + np.float32(mean)).astype(np.float32)

    def normalization(name, width):
        put(f"{name}/gamma", (width,), 0.1, 1)
        put(f"{name}/beta", (width,), 0.1)

    def dense(name, inputs, outputs):
        put(f"{name}/kernel", (inputs, outputs), inputs ** -0.5)
        put(f"{name}/bias", (outputs,), 0.05)

    put("logit_scale", (1,), 0, np.log(100))
    for tower, width in WIDTHS.items():
        for index in range(LAYERS):
            block = f"{tower}/encoder/layers_._{index}"
            normalization(f"{block}/layer_norm1", width)
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                dense(f"{block}/self_attn/{part}", width, width)
            normalization(f"{block}/layer_norm2", width)
            dense(f"{block}/mlp/fc1", width, 4 * width)
            dense(f"{block}/mlp/fc2", 4 * width, width)
    width = WIDTHS["text_model"]
    put("text_model/embeddings/token_embedding/weight", (VOCABULARY, width), 1)
    put("text_model/embeddings/position_embedding/embeddings", (CONTEXT, width), 0.3)
    normalization("text_model/final_layer_norm", width)
    put("text_projection/kernel", (width, EMBEDDING), width ** -0.5)
    width = WIDTHS["vision_model"]
    patch = (PATCH_SIZE, PATCH_SIZE, 3, width)
    put("vision_model/embeddings/patch_embedding/kernel", patch, (3 * PATCH_SIZE ** 2) ** -0.5)
    put("vision_model/embeddings/class_embedding", (width,), 1)
    put("vision_model/embeddings/position_embedding/embeddings", (PATCHES + 1, width), 0.3)
    normalization("vision_model/pre_layrnorm", width)
    normalization("vision_model/post_layernorm", width)
    put("visual_projection/kernel", (width, EMBEDDING), width ** -0.5)
    return weights


def write_checkpoint(folder, weights):
    """A folder as `TFCLIPModel.save_pretrained` writes it, with a tokenizer of single bytes."""
    import h5py
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def tower(name, **more):
        width = WIDTHS[name]
        return dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=LAYERS,
                    num_attention_heads=width // HEAD_WIDTH, hidden_act="quick_gelu",
                    layer_norm_eps=EPSILON, projection_dim=EMBEDDING, **more)

    config = {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": EMBEDDING,
        "text_config": tower("text_model", vocab_size=VOCABULARY, bos_token_id=START,
                             max_position_embeddings=CONTEXT, eos_token_id=END),
        "vision_config": tower("vision_model", image_size=IMAGE_SIZE, patch_size=PATCH_SIZE)}
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    preprocessing = {
        "do_resize": True, "size": {"shortest_edge": IMAGE_SIZE}, "resample": 3,
        "do_center_crop": True, "crop_size": size, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": DEVIATION, "do_convert_rgb": True}
    # Byte-level BPE writes bytes that are no printable Latin-1 characters as those from 256 on.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    tokens = symbols + [f"{symbol}</w>" for symbol in symbols]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    vocabulary |= {"<|startoftext|>": START, "<|endoftext|>": END}
    files = {"config.json": config, "preprocessor_config.json": preprocessing,
             "vocab.json": vocabulary}
    for name, contents in files.items():
        (folder / name).write_text(json.dumps(contents, indent=1))
    (folder / "merges.txt").write_text("#version: 0.2\n")

    text = h5py.string_dtype()
    with replacing(folder / "tf_model.h5") as path, h5py.File(path, "w") as file:
        file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "2.16.0"
        file.attrs.create("layer_names", ["clip"], dtype=text)
        group = file.create_group("clip")
        for name, values in weights.items():
            group[f"tf_clip_model/clip/{name}:0"] = values
        names = [f"tf_clip_model/clip/{name}:0" for name in weights]
        group.attrs.create("weight_names", names, dtype=text)


class Graph:
    """An ONNX graph under construction; values are known by name."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers, self.names = weights, [], [], set()

    def constant(self, name, values):
        from onnx import numpy_helper
        if name not in self.names:
            self.names.add(name)
            array = np.array(values, order="C")
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def shape(self, *extents):
        return self.constant("shape" + "_".join(map(str, extents)), np.array(extents, np.int64))

    def scalar(self, value, kind=np.float32):
        return self.constant(f"scalar{value}{kind.__name__}", np.array(value, kind))

    def add(self, kind, *inputs, outputs=1, **attributes):
        from onnx import helper
        results = [f"{kind}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, results, results[0], **attributes))
        return results[0] if outputs == 1 else results

    def normalize(self, x, name):
        return self.add("LayerNormalization", x, self.weight(f"{name}/gamma"),
                        self.weight(f"{name}/beta"), axis=-1, epsilon=EPSILON)

    def dense(self, x, name):
        product = self.add("MatMul", x, self.weight(f"{name}/kernel"))
        return self.add("Add", product, self.weight(f"{name}/bias"))

    def attention(self, x, name, width, tokens, mask):
        """Multi-head attention; queries, keys and values come of one product."""
        parts = ("q_proj", "k_proj", "v_proj")
        for kind in ("kernel", "bias"):
            joined = [self.weights[f"{name}/{part}/{kind}"] for part in parts]
            self.constant(f"{name}/joined/{kind}", np.concatenate(joined, axis=-1))
        joined = self.add("MatMul", x, f"{name}/joined/kernel")
        joined = self.add("Add", joined, f"{name}/joined/bias")
        split = self.add("Split", joined, self.shape(width, width, width), outputs=3, axis=-1)
        heads = self.shape(0, tokens, width // HEAD_WIDTH, HEAD_WIDTH)
        query, key, value = (self.add("Reshape", part, heads) for part in split)
        query = self.add("Transpose", query, perm=[0, 2, 1, 3])
        key = self.add("Transpose", key, perm=[0, 2, 3, 1])
        value = self.add("Transpose", value, perm=[0, 2, 1, 3])
        query = self.add("Mul", query, self.scalar(HEAD_WIDTH ** -0.5))
        scores = self.add("MatMul", query, key)
        scores = self.add("Add", scores, mask) if mask else scores
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        mixed = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self.add("Reshape", mixed, self.shape(0, tokens, width))
        return self.dense(mixed, f"{name}/out_proj")

    def blocks(self, x, tower, tokens, mask=None):
        for index in range(LAYERS):
            block = f"{tower}/encoder/layers_._{index}"
            inner = self.normalize(x, f"{block}/layer_norm1")
            mixed = self.attention(inner, f"{block}/self_attn", WIDTHS[tower], tokens, mask)
            x = self.add("Add", x, mixed)
            inner = self.dense(self.normalize(x, f"{block}/layer_norm2"), f"{block}/mlp/fc1")
            gate = self.add("Sigmoid", self.add("Mul", inner, self.scalar(1.702)))
            inner = self.dense(self.add("Mul", inner, gate), f"{block}/mlp/fc2")
            x = self.add("Add", x, inner)
        return x

    def image_tower(self, x):
        width, embeddings = WIDTHS["vision_model"], "vision_model/embeddings"
        kernel = self.weights[f"{embeddings}/patch_embedding/kernel"].transpose(3, 2, 0, 1)
        x = self.add("Conv", x, self.constant("patch", kernel), strides=[PATCH_SIZE] * 2)
        x = self.add("Transpose", self.add("Reshape", x, self.shape(0, width, PATCHES)),
                     perm=[0, 2, 1])
        first = self.weights[f"{embeddings}/class_embedding"].reshape(1, 1, width)
        # The class token comes in front: a row of zeros, to which the position table adds it.
        x = self.add("Pad", x, self.shape(0, 1, 0, 0, 0, 0))
        positions = self.weights[f"{embeddings}/position_embedding/embeddings"][None].copy()
        positions[:, :1] += first
        x = self.add("Add", x, self.constant("positions", positions))
        x = self.blocks(self.normalize(x, "vision_model/pre_layrnorm"), "vision_model", PATCHES + 1)
        x = self.add("Gather", x, self.scalar(0, np.int64), axis=1)
        x = self.normalize(x, "vision_model/post_layernorm")
        return self.add("MatMul", x, self.weight("visual_projection/kernel"))

    def text_tower(self, ids):
        embeddings = "text_model/embeddings"
        x = self.add("Gather", self.weight(f"{embeddings}/token_embedding/weight"), ids)
        x = self.add("Add", x, self.weight(f"{embeddings}/position_embedding/embeddings"))
        hidden = np.triu(np.full((CONTEXT, CONTEXT), np.finfo(np.float32).min), 1)
        mask = self.constant("mask", hidden.astype(np.float32))
        x = self.blocks(x, "text_model", CONTEXT, mask)
        x = self.normalize(x, "text_model/final_layer_norm")
        # No id is larger than that of the end token.
        last = self.add("ArgMax", ids, axis=1, keepdims=1)
        x = self.add("GatherND", x, last, batch_dims=1)
        return self.add("MatMul", x, self.weight("text_projection/kernel"))


def write_onnx(path, tower, weights):
    """One tower, "image" or "text": input x, output y, L2-normalized; the batch is free."""
    import onnx
    from onnx import TensorProto, helper
    graph = Graph(weights)
    y = graph.image_tower("x") if tower == "image" else graph.text_tower("x")
    length = graph.add("ReduceL2", y, axes=[-1], keepdims=1)
    graph.nodes.append(helper.make_node("Div", [y, length], ["y"], "y"))
    extents = ["n", 3, IMAGE_SIZE, IMAGE_SIZE] if tower == "image" else ["n", CONTEXT]
    kind = TensorProto.FLOAT if tower == "image" else TensorProto.INT64
    model = helper.make_model(
        helper.make_graph(graph.nodes, tower, [helper.make_tensor_value_info("x", kind, extents)],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", EMBEDDING])],
                          graph.initializers),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with replacing(path) as beside:
        onnx.save(model, str(beside))
    onnx.checker.check_model(str(path))


def inputs(tower, batch, tokens=CONTEXT, seed=1, padded=True):
    """Pixels as after preprocessing, or ids of texts of `tokens` with start and end token."""
    random = np.random.default_rng(seed)
    if tower == "image":
        # Coarse noise: neighbouring pixels are alike, as in pictures.
        coarse = random.standard_normal((batch, 3, 14, 14)).astype(np.float32)
        return np.ascontiguousarray(coarse.repeat(16, axis=2).repeat(16, axis=3))
    ids = np.zeros((batch, CONTEXT if padded else tokens), np.int64)
    ids[:, 1:tokens - 1] = random.integers(0, START, (batch, tokens - 2))
    ids[:, 0], ids[:, tokens - 1] = START, END
    return ids


def write_tensors(path, tower, batch, tokens=CONTEXT):
    """What `clipc encode --tensors` reads: the same inputs, texts without padding."""
    import h5py
    with replacing(path) as beside, h5py.File(beside, "w") as file:
        values = inputs(tower, batch, tokens, padded=False)
        file["pixel_values" if tower == "image" else "input_ids"] = values


def write_pictures(folder, count=16, side=256, seed=0):
    """Pictures of overlapping disks on gradients, with a table of captions: calibration data."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    random, rows = np.random.default_rng(seed), ["filepath,title"]
    y, x = np.mgrid[:side, :side]
    for index in range(count):
        picture = np.empty((side, side, 3))
        picture[:] = random.uniform(0, 255, 3) * (x + y)[..., None] / (2 * side)
        for _ in range(8):
            across, down, radius = random.uniform(0, side, 2).tolist() + [random.uniform(8, 80)]
            picture[(x - across) ** 2 + (y - down) ** 2 < radius ** 2] = random.uniform(0, 255, 3)
        picture += random.normal(0, 6, picture.shape)
        write_png(folder / f"{index:02}.png", picture.clip(0, 255).astype(np.uint8))
        words = random.choice(WORDS, random.integers(3, 12))
        rows.append(f"{index:02}.png,{' '.join(words)}")
    with replacing(folder / "pairs.csv") as path:
        path.write_text("\n".join(rows) + "\n")


def write_png(path, pixels):
    height, width, _ = pixels.shape
    rows = np.insert(pixels.reshape(height, -1), 0, 0, axis=1)  # no filter in any row

    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
                     + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b""))
