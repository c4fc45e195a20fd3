"""What sensors and the guard cost: decode with and without them, in turns; and the sensors' thread's own time.

python3 bench/guard.py PROGRAM MODEL|- TOKENS PAIRS
"""

import glob
import json
import signal
import statistics
import subprocess
import sys
import time


def command(program, model, tokens, context):
    given = [program, "run", "-p", "Once upon a time", "--raw", "-n", str(tokens), "-c", str(context)]
    given += ["--ignore-eos", "--temp", "0", "--device", "cpu", "-t", "2"]
    return given if model == "-" else given + ["-m", model]


def rate(given):
    said = subprocess.run(given + ["--json"], capture_output=True, text=True, check=True).stdout
    return json.loads(said)["generated_tokens_per_second"]


def pairs(program, model, tokens, count):
    given = command(program, model, tokens, 1024)
    rate(given)
    with_guard, without = [], []
    for turn in range(count):
        order = [(with_guard, []), (without, ["--no-guard"])]
        for rates, more in order if turn % 2 == 0 else reversed(order):
            rates.append(rate(given + more))
    ratios = [a / b for a, b in zip(with_guard, without)]
    quartiles = [round(quartile, 4) for quartile in statistics.quantiles(ratios, n=4)]
    print(f"with {statistics.median(with_guard):.1f}, without {statistics.median(without):.1f} tok/s;", end=" ")
    print(f"ratio {statistics.median(ratios):.4f}, quartiles {quartiles}, {count} pairs")


def thread(program, model):
    given = command(program, model, 10_000_000, 256) + ["--quiet"]
    running = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def spent():
        for task in glob.glob(f"/proc/{running.pid}/task/*"):
            if open(f"{task}/comm").read().strip() == "sensors":
                return int(open(f"{task}/schedstat").read().split()[0])
        raise SystemExit("there is no thread of the sensors'")

    time.sleep(2)
    before, start = spent(), time.monotonic()
    time.sleep(6)
    each = (spent() - before) / (time.monotonic() - start) / 1e6
    running.send_signal(signal.SIGINT)
    running.wait()
    print(f"the sensors' thread takes {each:.2f} ms of a core a second")


if __name__ == "__main__":
    program, model, tokens, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    thread(program, model)
    pairs(program, model, tokens, count)
