#!/usr/bin/env python3
"""Write a GGUF of a published model's exact shape with random weights.

Speed and memory do not depend on what the weights say, so these files stand in for the checkpoints
where only time is measured. Formats of tensors follow llama.cpp's mixes. The scale of every matrix is
one over the square root of its columns, so activations stay near one and no softmax saturates.

    random_model.py NAME OUT.gguf [--mix q4_k_m] [--layers N] [--seed N]
    random_model.py --list

Needs numpy only. The tokens are <unk>, <s>, </s>, 256 bytes and t0, t1, ... up to the published size
of the vocabulary: "t5t77" is two tokens.
"""

import argparse
import os
import struct
import sys
import time

import numpy as np

from shapes import FORMATS, MIXES, SHAPES

F32, F16 = "f32", "f16"
ALIGNMENT = 32
POOL_BYTES = 8 << 20
PIECE_BYTES = 4 << 20


def put_f16(blocks, at, values):
    """Writes one f16 a block at byte `at`."""
    blocks[:, at:at + 2] = np.broadcast_to(values, len(blocks)).astype("<f2").reshape(-1, 1).view(np.uint8)


def packed_scales(scale, low):
    """The twelve bytes that hold eight 6-bit scales and eight 6-bit minimums of Q4_K and Q5_K."""
    out = np.empty((len(scale), 12), np.uint8)
    out[:, 0:4] = scale[:, :4] | (scale[:, 4:] >> 4) << 6
    out[:, 4:8] = low[:, :4] | (low[:, 4:] >> 4) << 6
    out[:, 8:12] = (scale[:, 4:] & 15) | (low[:, 4:] & 15) << 4
    return out


def pool(rng, form, cols):
    """Random blocks of a format for rows of `cols`: mean 0, deviation near 1/sqrt(cols)."""
    spread = 1.0 / np.sqrt(cols)
    _, _, size = FORMATS[form]
    if form in (F32, F16):
        values = rng.standard_normal(POOL_BYTES // size, np.float32) * np.float32(spread)
        return values.astype("<f4" if form == F32 else "<f2").view(np.uint8)
    count = POOL_BYTES // size
    blocks = rng.integers(0, 256, (count, size), np.uint8)
    # A uniform code of n bits deviates by 2^n / sqrt(12) from its mean.
    jitter = rng.uniform(0.8, 1.2, count)
    if form in ("q4_k", "q5_k"):
        codes = 16 if form == "q4_k" else 32
        scale = rng.integers(32, 64, (count, 8), np.uint8)
        low = np.clip(scale.astype(np.int16) + rng.integers(-1, 2, scale.shape), 0, 63).astype(np.uint8)
        delta = spread / (codes / np.sqrt(12) * 48) * jitter
        put_f16(blocks, 0, delta)
        put_f16(blocks, 2, delta * (codes - 1) / 2)
        blocks[:, 4:16] = packed_scales(scale, low)
    elif form == "q6_k":
        scale = rng.integers(32, 64, (count, 16), np.int16) * rng.choice((-1, 1), (count, 16))
        blocks[:, 192:208] = scale.astype(np.int8).view(np.uint8)
        put_f16(blocks, 208, spread / (64 / np.sqrt(12) * 48) * jitter)
    elif form == "q8_0":
        put_f16(blocks, 0, spread / (256 / np.sqrt(12)) * jitter)
    elif form == "q4_0":
        put_f16(blocks, 0, spread / (16 / np.sqrt(12)) * jitter)
    else:
        raise ValueError(form)
    return blocks.reshape(-1)


def more_bits(layer, layers):
    """The layers that get Q6_K in the _M mixes: first and last eighth, every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def rope_factors(shape):
    """Llama 3.1's divisors of RoPE's frequencies: long waves by `factor`, short ones by 1, a ramp between."""
    half = np.arange(0, shape["head"], 2, dtype=np.float64)
    wave = 2 * np.pi * shape["theta"] ** (half / shape["head"])
    ramp = np.clip((8192 / wave - 1) / 3, 0, 1)
    return (1 / ((1 - ramp) / shape["factor"] + ramp)).astype("<f4")


def tensors(shape, layers, mix):
    """Names, dimensions (contiguous first) and format, or the values themselves."""
    usual = MIXES[mix][1]
    out = usual if usual in ("f16", "q8_0") else "q6_k"
    richer = "q6_k" if mix.endswith("_m") else usual
    dim, head, ff, family = shape["dim"], shape["head"], shape["ff"], shape["family"]
    queries, keys = shape["heads"] * head, shape["kv"] * head
    ones = lambda count: np.ones(count, "<f4")

    yield "token_embd.weight", (dim, shape["vocab"]), out if shape["tied"] else usual
    yield "output_norm.weight", (dim,), ones(dim)
    if not shape["tied"]:
        yield "output.weight", (dim, shape["vocab"]), out
    if "factor" in shape:
        yield "rope_freqs.weight", (head // 2,), rope_factors(shape)
    if family == "phi3":
        for name in ("long", "short"):
            yield f"rope_factors_{name}.weight", (shape["rotated"] // 2,), ones(shape["rotated"] // 2)
    for layer in range(layers):
        at = f"blk.{layer}."
        value = richer if more_bits(layer, layers) else usual
        yield at + "attn_norm.weight", (dim,), ones(dim)
        yield at + "ffn_norm.weight", (dim,), ones(dim)
        if family == "phi3":
            yield at + "attn_qkv.weight", (dim, queries + 2 * keys), value
        else:
            yield at + "attn_q.weight", (dim, queries), usual
            yield at + "attn_k.weight", (dim, keys), usual
            yield at + "attn_v.weight", (dim, keys), value
        yield at + "attn_output.weight", (queries, dim), usual
        if family in ("qwen3", "gemma3"):
            yield at + "attn_q_norm.weight", (head,), ones(head)
            yield at + "attn_k_norm.weight", (head,), ones(head)
        if family in ("gemma2", "gemma3"):
            yield at + "post_attention_norm.weight", (dim,), ones(dim)
            yield at + "post_ffw_norm.weight", (dim,), ones(dim)
        if family == "phi3":
            yield at + "ffn_up.weight", (dim, 2 * ff), usual
        else:
            yield at + "ffn_gate.weight", (dim, ff), usual
            yield at + "ffn_up.weight", (dim, ff), usual
        yield at + "ffn_down.weight", (ff, dim), value


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


U32, I32, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def key(name, kind, value):
    """One key of the header."""
    pack = {U32: "<I", FLOAT: "<f", BOOL: "<?"}
    return text(name) + struct.pack("<I", kind) + (text(value) if kind == STRING else struct.pack(pack[kind], value))


def array(name, kind, count, data):
    return text(name) + struct.pack("<IIQ", ARRAY, kind, count) + data


def header_keys(name, shape, layers, mix):
    family = shape["family"]
    rotated = shape.get("rotated", shape["head"])
    keys = [
        key("general.architecture", STRING, family),
        key("general.name", STRING, f"{name} random weights"),
        key("general.file_type", U32, MIXES[mix][0]),
        key("general.quantization_version", U32, 2),
    ]
    add = lambda tail, kind, value: keys.append(key(f"{family}.{tail}", kind, value))
    add("context_length", U32, shape["context"])
    add("embedding_length", U32, shape["dim"])
    add("block_count", U32, layers)
    add("feed_forward_length", U32, shape["ff"])
    add("attention.head_count", U32, shape["heads"])
    add("attention.head_count_kv", U32, shape["kv"])
    add("attention.key_length", U32, shape["head"])
    add("attention.value_length", U32, shape["head"])
    add("attention.layer_norm_rms_epsilon", FLOAT, shape["eps"])
    add("rope.dimension_count", U32, rotated)
    add("rope.freq_base", FLOAT, shape["theta"])
    add("vocab_size", U32, shape["vocab"])
    if "window" in shape:
        add("attention.sliding_window", U32, shape["window"])
    if family == "gemma2":
        add("attn_logit_softcapping", FLOAT, 50.0)
        add("final_logit_softcapping", FLOAT, 30.0)
    if family == "gemma3":
        add("rope.scaling.type", STRING, "linear")
        add("rope.scaling.factor", FLOAT, 8.0)
    if family == "phi3":
        add("attention.sliding_window", U32, 262144)
        add("rope.scaling.original_context_length", U32, 4096)
        add("rope.scaling.attn_factor", FLOAT, 1.1902380714238083)
    words = shape["vocab"] - 259
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + [f"t{i}" for i in range(words)]
    scores = np.concatenate([np.zeros(259, "<f4"), -np.arange(words, dtype="<f4")])
    kinds = np.concatenate([np.array([2, 3, 3] + [6] * 256, "<i4"), np.ones(words, "<i4")])
    keys += [
        key("tokenizer.ggml.model", STRING, "llama"),
        array("tokenizer.ggml.tokens", STRING, len(tokens), b"".join(text(token) for token in tokens)),
        array("tokenizer.ggml.scores", FLOAT, len(scores), scores.tobytes()),
        array("tokenizer.ggml.token_type", I32, len(kinds), kinds.tobytes()),
        key("tokenizer.ggml.bos_token_id", U32, 1),
        key("tokenizer.ggml.eos_token_id", U32, 2),
        key("tokenizer.ggml.unknown_token_id", U32, 0),
        key("tokenizer.ggml.add_bos_token", BOOL, True),
        key("tokenizer.ggml.add_eos_token", BOOL, False),
        key("tokenizer.ggml.add_space_prefix", BOOL, False),
    ]
    return keys


def write(path, name, mix, layers=None, seed=7):
    """Writes the file and returns its size in bytes."""
    shape = SHAPES[name]
    layers = layers or shape["layers"]
    rng = np.random.default_rng(seed)
    keys = header_keys(name, shape, layers, mix)
    infos, plan, offset = [], [], 0
    for tensor, dims, what in tensors(shape, layers, mix):
        form = what if isinstance(what, str) else F32
        number, weights, size = FORMATS[form]
        if dims[0] % weights:
            raise SystemExit(f"{tensor}: {dims[0]} columns are no whole blocks of {form}")
        length = int(np.prod(dims)) // weights * size
        infos.append(text(tensor) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset))
        plan.append((offset, length, what, dims))
        offset += -(-length // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys) + b"".join(infos)
    head += bytes(-len(head) % ALIGNMENT)
    pools = {}
    with open(path, "wb", buffering=0) as file:
        file.truncate(len(head) + offset)
        put = lambda data, at: os.pwrite(file.fileno(), data, at)
        put(head, 0)
        for start, length, what, dims in plan:
            start += len(head)
            if not isinstance(what, str):
                put(what.tobytes(), start)
                continue
            if (what, dims[0]) not in pools:
                pools[what, dims[0]] = memoryview(pool(rng, what, dims[0]))
            data, size = pools[what, dims[0]], FORMATS[what][2]
            piece = PIECE_BYTES // size * size
            # Pieces begin at any block of the pool, so that no two rows of a matrix are alike.
            for at in range(0, length, piece):
                need = min(piece, length - at)
                first = int(rng.integers(0, (len(data) - need) // size + 1)) * size
                put(data[first:first + need], start + at)
    return len(head) + offset


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=sorted(SHAPES))
    parser.add_argument("out", nargs="?")
    parser.add_argument("--mix", default="q4_k_m", choices=sorted(MIXES))
    parser.add_argument("--layers", type=int, help="fewer layers than published, for tests")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--list", action="store_true", help="print the names")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(SHAPES))
        return
    if asked.out is None:
        parser.error("give a name and a file")
    began = time.monotonic()
    size = write(asked.out, asked.name, asked.mix, asked.layers, asked.seed)
    print(f"{asked.out}: {size / 1e9:.3f} GB in {time.monotonic() - began:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
