"""Token vectors from other people's tokenizers, for tests/oracle.rs.

    python vectors.py SHARED OUT [--count 5000] [--seed 1] [--only NAME] [--models]

For every vocabulary below SHARED/fixtures/tokenizers (with --models for chat-7m and stories260K instead) this builds the
published tokenizer again from the tokens and merges in the GGUF file: Hugging Face `tokenizers` for BPE,
`sentencepiece` for SentencePiece. It encodes hostile strings and writes OUT/NAME.json:

    {"vocabulary": path below SHARED, "special": bool, "cases": [[text, [id, ...]], ...]}

Then `JETSON_LLM_VECTORS=OUT cargo test -p text --test oracle` compares. Needs gguf, tokenizers and
sentencepiece (with protobuf) from PyPI.

With "special" control tokens in the text are parsed, without they are plain text. The pre-tokenizers are
those of the published tokenizer.json files. Qwen's also normalizes to NFC, which a GGUF file does not
say and llama.cpp does not do: left out here.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from gguf import GGUFReader

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
ENDS = {"<|im_end|>", "<|endoftext|>", "</s>", "<|end|>", "<|tool_response>"}

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (
    CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    + SPACES
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
    + SPACES
)
TEKKEN = O200K.replace(CONTRACTIONS + "?", "").replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK3 = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    + SPACES,
]
DEEPSEEK_LETTERS = "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
DEEPSEEK_LLM = [
    "[\r\n]",
    r"\s?[" + DEEPSEEK_LETTERS + "]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-\ud7ff]+",
]
DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+"]


def pre_tokenizer(name):
    """The published pre-tokenizer, and whether whole pieces skip the merges."""
    from tokenizers import Regex, pre_tokenizers as p

    level = lambda use: p.ByteLevel(add_prefix_space=False, use_regex=use)
    split = lambda pattern: p.Split(Regex(pattern), "isolated")
    one = lambda pattern: p.Sequence([split(pattern), level(False)])
    table = {
        "llama-bpe": lambda: one(LLAMA3),
        "dbrx": lambda: one(LLAMA3),
        "qwen2": lambda: one(QWEN2),
        "qwen35": lambda: one(QWEN35),
        "gpt-4o": lambda: one(O200K),
        "tekken": lambda: one(TEKKEN),
        "gpt-2": lambda: level(True),
        "starcoder": lambda: p.Sequence([p.Digits(True), level(True)]),
        "falcon": lambda: p.Sequence(
            [p.Punctuation("contiguous"), level(True), p.Digits(False), split("[0-9][0-9][0-9]")]
        ),
        "deepseek-llm": lambda: p.Sequence([split(r) for r in DEEPSEEK_LLM] + [p.Digits(True), level(False)]),
        "deepseek-coder": lambda: p.Sequence([split(r) for r in DEEPSEEK_CODER] + [p.Digits(True), level(False)]),
        "deepseek-v3": lambda: p.Sequence([split(r) for r in DEEPSEEK3] + [level(False)]),
    }
    return table[name](), name in ("llama-bpe", "tekken")


def kinds_of(keys):
    """Token types, with user-defined end tokens made control tokens as llama.cpp does."""
    kinds = keys["token_type"]
    return [CONTROL if k == USER and t in ENDS else k for t, k in zip(keys["tokens"], kinds)]


def bpe(keys, special, pre=None):
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    tokens, kinds = keys["tokens"], kinds_of(keys)
    gemma = keys["model"] == "gemma4"
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = []
    for merge in keys["merges"]:
        at = merge.index(" ", 1)
        merges.append((merge[:at], merge[at + 1 :]))
    if gemma:
        model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        pre_tok, whole = pre_tokenizer(pre or keys["pre"])
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=whole))
        tokenizer.pre_tokenizer = pre_tok
    wanted = (USER, CONTROL, UNKNOWN) if special else (USER,)
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False, special=False) for t, k in zip(tokens, kinds) if k in wanted]
    )
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def spm(keys):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    for i, (token, kind) in enumerate(zip(keys["tokens"], kinds_of(keys))):
        # SentencePiece wants one unknown piece and only one.
        kind = UNKNOWN if i == 0 else UNUSED if kind == UNKNOWN else kind
        model.pieces.add(piece=token, score=keys["scores"][i], type=kind)
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(keys["tokens"])
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = keys.get("add_space_prefix", True)
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return lambda text: processor.encode(text) if text else []


def hostile(rng, specials):
    """One string of a random mixture of things that broke tokenizers."""
    plane = lambda lo, hi: lambda: chr(rng.choice([c for c in [rng.randint(lo, hi)] if not 0xD800 <= c < 0xE000] or [0x41]))
    words = "the of and Hello WORLD iPhone McDonald don't we'LL I'M they'Ve 'S naïve straße ÀÉÎ Ünïcödé ſ 'ſ x'ſt ǅungla".split()
    pick = [
        plane(0, 0x10FFFF),
        plane(0, 0x10FFFF),
        plane(0, 0xFFFF),
        plane(0, 0x7FF),
        plane(0x20, 0x7E),
        plane(0x20, 0x7E),
        plane(0, 0x1F),
        plane(0x300, 0x36F),
        plane(0x1F300, 0x1FAFF),
        plane(0x4E00, 0x9FFF),
        plane(0x3040, 0x30FF),
        plane(0xAC00, 0xD7A3),
        plane(0x900, 0x97F),
        plane(0x600, 0x6FF),
        plane(0x2000, 0x206F),
        lambda: rng.choice(words),
        lambda: " " + rng.choice(words),
        lambda: rng.choice(words).upper() + rng.choice(words),
        lambda: rng.choice(" \t\n\r\v\f\x85\xa0\u2003\u2028\u3000\u200b\ufeff") * rng.randint(1, 5),
        lambda: rng.choice(["\r\n", "\n", "\n\n", " \n", "\n ", "\t\n", "  ", "   ", " " * 17]),
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 12))),
        lambda: rng.choice("٣४५½²Ⅷ①零").join("12"),
        lambda: rng.choice("'’`\"") + rng.choice(["s", "S", "t", "RE", "ll", "lL", "VE", "d", "x", "m", ""]),
        lambda: rng.choice(["👨\u200d👩\u200d👧", "🏳️\u200d🌈", "👍🏽", "🇩🇪", "e\u0301", "ก็", "क्षि"]),
        lambda: rng.choice("!?.,;:-_=+*/\\|<>[]{}()@#$%^&~") * rng.randint(1, 6),
        lambda: rng.choice(["http://a.b/c?d=e&f", "x = {'a': 1}\n", "</div>", "\\n", "//", "a/b", "<0x0A>", "▁", "Ġ"]),
        lambda: "\0",
        lambda: rng.choice(specials) if specials else "",
        lambda: (rng.choice(specials) if specials else "")[: rng.randint(1, 12)],
    ]
    few = rng.sample(pick, rng.randint(1, 6))
    return "".join(rng.choice(few)() for _ in range(rng.randint(1, rng.choice([4, 12, 40]))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only")
    parser.add_argument("--pre", help="build this pre-tokenizer instead of the file's")
    parser.add_argument("--models", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    files = sorted((args.shared / "fixtures/tokenizers").glob("*.gguf"))
    if args.models:
        files = [args.shared / "models/chat-7m-f16.gguf", args.shared / "fixtures/models/stories260K.gguf"]
    for file in files:
        if args.only and args.only not in file.name:
            continue
        fields = GGUFReader(file).fields
        prefix = "tokenizer.ggml."
        keys = {k[len(prefix) :]: v.contents() for k, v in fields.items() if k.startswith(prefix)}
        keys.setdefault("token_type", [NORMAL] * len(keys["tokens"]))
        specials = [t for t, k in zip(keys["tokens"], keys["token_type"]) if k in (CONTROL, USER)]
        for special in (False, True):
            if keys["model"] == "llama":
                if special:
                    continue
                encode = spm(keys)
            else:
                encode = bpe(keys, special, args.pre)
            rng = random.Random(f"{args.seed} {file.name} {special}")
            count = args.count if not special else args.count // 4
            texts = [hostile(rng, specials) for _ in range(count)]
            name = file.stem + (f".{args.pre}" if args.pre else "") + (".special" if special else "")
            vectors = {
                "vocabulary": str(file.relative_to(args.shared)),
                "special": special,
                "cases": [[text, encode(text)] for text in texts],
            }
            if args.pre:
                vectors["pre"] = args.pre
            (args.out / f"{name}.json").write_text(json.dumps(vectors, separators=(",", ":")) + "\n")
            print(f"{name}: {count} cases", file=sys.stderr)


if __name__ == "__main__":
    main()
