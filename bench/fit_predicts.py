#!/usr/bin/env python3
"""Set what `jetson-llm fit` predicts beside what runs take, over models, contexts and types of cache.

On cores a run reads a prompt that fills its context but for a few tokens, generates the rest, and its peak is
the kernel's own count (ru_maxrss of wait4). On a GPU (--cuda-library or --device cuda) what it takes is the
driver's count before and after; there the prompt is short, since all is allocated at load.

usage: fit_predicts.py [--program P] [--device cpu|cuda] [--cuda-library F] [--contexts 1024,2048] [--kv f16,int8,int4]
                       [--batch-size N] --text FILE --out OUT.jsonl MODEL...      (MODEL "-" is the built-in one)
Prints a table, appends a line a run to OUT, and fails if one differs by more than 2 % (of a GPU: by a byte).
"""
import argparse, json, os, subprocess, sys, tempfile


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", default="target/release/jetson-llm")
    p.add_argument("--device", default="cpu")
    p.add_argument("--cuda-library")
    p.add_argument("--contexts", default="1024,2048,4096")
    p.add_argument("--kv", default="f16,int8,int4")
    p.add_argument("--batch-size", type=int, default=512)
    p.add_argument("--text", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("models", nargs="+")
    a = p.parse_args()
    text = open(a.text, encoding="utf-8").read()
    worst, runs = 0.0, 0
    with open(a.out, "a", encoding="utf-8") as out:
        for model in a.models:
            for context in map(int, a.contexts.split(",")):
                for kv in a.kv.split(","):
                    row = measure(a, text, [] if model == "-" else ["-m", model], context, kv)
                    if row is None:
                        print(f"{model} {context} {kv}: not run on this device")
                        continue
                    out.write(json.dumps(row) + "\n")
                    out.flush()
                    print(f"{row['model']:<34} {row['device']:<5} {context:>6} {kv:<5} {row['predicted']:>12} "
                          f"{row['measured']:>12} {row['difference_percent']:+.2f} %", flush=True)
                    worst, runs = max(worst, abs(row["difference_percent"])), runs + 1
    print(f"{runs} runs, largest difference {worst:.3f} %")
    return 0 if worst <= (2.0 if a.device == "cpu" else 0.0) else 1


def measure(a, text, model, context, kv):
    sizes = ["-c", str(context), "--kv", kv, "--batch-size", str(a.batch_size), "--device", a.device]
    if a.cuda_library:
        sizes += ["--cuda-library", a.cuda_library]
    fit = subprocess.run([a.program, "fit", *model, *sizes, "--json"], capture_output=True, text=True)
    about = json.loads(fit.stdout)
    cell = next(c for c in about["table"] if c["context"] == context)
    if not cell["runs"]:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as prompt:
        # A GPU allocates all at load.
        filled = prompt_of(a, model, text, context) if a.device == "cpu" else text[:40]
        prompt.write(filled)
        prompt.flush()
        more = ["-n", "-1"] if a.device == "cpu" else ["-n", "2"]
        run = [a.program, "run", *model, *sizes, "--raw", "-f", prompt.name, "--temp", "0", "--ignore-eos", *more]
        answer, peak = peak_of([*run, "--json"])
    if a.device == "cpu":
        assert answer["prompt_tokens"] + answer["generated_tokens"] >= context, "the context was filled"
        predicted, measured = cell["peak"], peak
    else:
        shared = cell["pinned"] if about["shared_memory"] else 0
        predicted = cell["weights"] + cell["cache"] + cell["buffers"] + shared
        measured = answer["device_memory_bytes"]
    name = os.path.basename(model[1]) if model else "built-in"
    run[0] = "jetson-llm"
    run = [name if word == model[1:2][0] else word for word in run] if model else run
    run[run.index("-f") + 1] = "PROMPT"
    if a.cuda_library:
        run[run.index("--cuda-library") + 1] = "LIBRARY"
    return {
        "model": name, "device": a.device if a.device == "cpu" else answer.get("device", about["device"]),
        "context": context, "kv": kv, "batch_size": a.batch_size, "predicted": predicted, "measured": measured,
        "difference_percent": round(100 * (predicted - measured) / measured, 4),
        "prompt_tokens": answer["prompt_tokens"], "generated_tokens": answer["generated_tokens"],
        "command": " ".join(run),
    }


def prompt_of(a, model, text, context):
    """Text of a little fewer tokens than the context has positions."""
    def tokens(piece):
        ids = subprocess.run([a.program, "tokenize", *model, "--json"], input=piece, capture_output=True, text=True)
        return len(json.loads(ids.stdout))
    low, high = 0, min(len(text), 8 * context)
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (middle, high) if tokens(text[:middle]) < context - 8 else (low, middle)
    return text[:low]


def peak_of(command):
    """The answer of a command and the most memory it held, by the kernel's count."""
    read, write = os.pipe()
    child = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    with os.fdopen(read) as out:
        answer = out.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(child.stderr.read().decode())
    return json.loads(answer), usage.ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
