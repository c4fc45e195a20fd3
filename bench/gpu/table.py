#!/usr/bin/env python3
"""Keep and print rows of paired measurements: pair.sh calls this.

    table.py add LINES SCOPE FILE <ROWS.json            rows of jetson-llm bench
    table.py peer LINES SCOPE FILE DEVICE <ROWS.json    rows of llama-bench alone; they must be of DEVICE
    table.py failed LINES SCOPE FILE ERROR
    table.py show LINES

Medians of runs; `ratio` is our median over the peer's, `pairs` the least and the greatest ratio of two
neighbouring runs. GB/s is of decode: bytes of the weights that a token reads, times tokens a second.
"""

import json
import os
import re
import statistics
import sys

from shapes import FORMATS, MIXES, SHAPES


def bytes_read(file, size):
    """Bytes a token reads of the weights: all but the table of embeddings that is not the output too."""
    name = re.fullmatch(r"(.*)-([a-z0-9_]+?)(?:-(\d+))?\.gguf", os.path.basename(file))
    if name is None or name[1] not in SHAPES or name[2] not in MIXES:
        return size
    shape = SHAPES[name[1]]
    if shape["tied"]:
        return size
    _, weights, block = FORMATS[MIXES[name[2]][1]]
    return size - shape["dim"] * shape["vocab"] // weights * block


def test_name(row):
    what = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
    return what + (f"@{row['n_depth']}" if row["n_depth"] else "")


def kept(row, scope, file, alone):
    """The line kept of a row."""
    peer = row["samples_ts"] if alone else row.get("peer", {}).get("samples_ts", [])
    line = dict(scope=scope, file=os.path.basename(file), test=test_name(row), bytes=row["model_size"],
                read=bytes_read(file, row["model_size"]), ours=[] if alone else row["samples_ts"], peer=peer,
                threads=row.get("n_threads"), backend=row.get("backends"))
    if "trace" in row:
        line["trace"] = row["trace"]
    return line


def append(path, lines):
    with open(path, "a") as out:
        for line in lines:
            out.write(json.dumps(line) + "\n")


def cells(line):
    mid = lambda values: statistics.median(values) if values else None
    show = lambda value, form: "-" if value is None else format(value, form)
    ours, peer = mid(line["ours"]), mid(line["peer"])
    ratios = [a / b for a, b in zip(line["ours"], line["peer"])]
    decode = line["test"].startswith("tg")
    rate = lambda speed: show(speed and decode and speed * line["read"] / 1e9 or None, ".0f")
    return [line["file"].removesuffix(".gguf"), line["scope"], line["test"], show(ours, ".1f"), show(peer, ".1f"),
            show(ours and peer and ours / peer, ".2f"),
            f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "-", rate(ours), rate(peer)]


def show(path):
    with open(path) as lines:
        lines = [json.loads(line) for line in lines]
    rows = [["model", "scope", "test", "ours", "peer", "ratio", "pairs", "GB/s", "peer GB/s"]]
    rows += [cells(line) for line in lines if "error" not in line]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for line in lines:
        if "error" in line:
            print(f"{line['file']} on {line['scope']}: {line['error']}")
    return any("error" in line for line in lines)


def main():
    command, path, *rest = sys.argv[1:] if len(sys.argv) > 2 else ["help", ""]
    if command == "show":
        sys.exit(1 if show(path) else 0)
    elif command in ("add", "peer"):
        scope, file, *device = rest
        rows = json.loads(sys.stdin.read() or "[]")
        elsewhere = [row["backends"] for row in rows if device and device[0].upper() not in row["backends"]]
        if elsewhere:
            sys.exit(f"{file}: the peer computed on {elsewhere[0]}, not on {device[0]}; nothing kept")
        append(path, [kept(row, scope, file, command == "peer") for row in rows])
    elif command == "failed":
        scope, file, error = rest
        append(path, [dict(scope=scope, file=os.path.basename(file), error=error)])
    else:
        sys.exit(__doc__)


main()
