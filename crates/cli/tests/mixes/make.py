#!/usr/bin/env python3
"""Writes choices.tsv: the format llama-quantize gives each tensor of some models.

usage: make.py LLAMA_QUANTIZE NAME=MODEL.gguf … > choices.tsv

Only names, shapes and formats are kept, a letter a layer. Needs the gguf package of PyPI; the models
may hold zeros.
"""
import re, subprocess, sys
from gguf import GGUFReader

MIXES = ["Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0", "Q5_1", "Q5_0", "Q4_1"]
LETTER = {"f32": "f", "f16": "h", "bf16": "b", "q4_0": "0", "q4_1": "1", "q5_0": "n", "q5_1": "m", "q4_K": "4", "q5_K": "5", "q6_K": "6", "q8_0": "8"}
LINE = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- \[.*?\], type = +(\S+), (.*)")

def chosen(program, path, mix):
    run = subprocess.run([program, "--dry-run", path, mix], capture_output=True, text=True, check=True)
    formats = {}
    for line in (run.stdout + run.stderr).splitlines():
        if found := LINE.search(line):
            name, now, rest = found.groups()
            new = re.search(r"\((\w+)\)", rest)
            formats[name] = LETTER[new.group(1) if new else now]
    return formats

program, *models = sys.argv[1:]
print("# model layers heads kv_heads | tensor format shape " + " ".join(MIXES))
for model in models:
    name, path = model.split("=", 1)
    reader = GGUFReader(path)
    arch = bytes(reader.get_field("general.architecture").parts[-1]).decode()
    number = lambda key: int(reader.get_field(f"{arch}.{key}").parts[-1][0])
    print("model", name, arch, number("block_count"), number("attention.head_count"), number("attention.head_count_kv"), sep="\t")
    rows, choices = {}, [chosen(program, path, mix) for mix in MIXES]
    for tensor in reader.tensors:
        match = re.match(r"blk\.(\d+)\.(.*)", tensor.name)
        key = (f"blk.*.{match[2]}" if match else tensor.name, LETTER[tensor.tensor_type.name.lower().replace("_k", "_K")], "x".join(str(int(d)) for d in tensor.shape))
        rows.setdefault(key, {})[int(match[1]) if match else 0] = [c[tensor.name] for c in choices]
    for (tensor, format, shape), layers in rows.items():
        columns = ["".join(layers[i][m] for i in sorted(layers)) for m in range(len(MIXES))]
        print(tensor, format, shape, *columns, sep="\t")
