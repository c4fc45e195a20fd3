"""Shapes of published models, and the formats and mixes their weights are stored in."""

# Shapes from each model's config.json. `theta` is the base of RoPE, `eps` of the norms' root.
SHAPES = {
    "tinyllama-1.1b": dict(family="llama", dim=2048, layers=22, heads=32, kv=4, head=64, ff=5632, vocab=32000,
                           theta=1e4, eps=1e-5, context=2048, tied=False),
    "llama-3.2-1b": dict(family="llama", dim=2048, layers=16, heads=32, kv=8, head=64, ff=8192, vocab=128256,
                         theta=5e5, eps=1e-5, context=131072, tied=True, factor=32.0),
    "llama-3.2-3b": dict(family="llama", dim=3072, layers=28, heads=24, kv=8, head=128, ff=8192, vocab=128256,
                         theta=5e5, eps=1e-5, context=131072, tied=True, factor=32.0),
    "llama-3.1-8b": dict(family="llama", dim=4096, layers=32, heads=32, kv=8, head=128, ff=14336, vocab=128256,
                         theta=5e5, eps=1e-5, context=131072, tied=False, factor=8.0),
    "qwen3-0.6b": dict(family="qwen3", dim=1024, layers=28, heads=16, kv=8, head=128, ff=3072, vocab=151936,
                       theta=1e6, eps=1e-6, context=40960, tied=True),
    "qwen3-1.7b": dict(family="qwen3", dim=2048, layers=28, heads=16, kv=8, head=128, ff=6144, vocab=151936,
                       theta=1e6, eps=1e-6, context=40960, tied=True),
    "gemma-2-2b": dict(family="gemma2", dim=2304, layers=26, heads=8, kv=4, head=256, ff=9216, vocab=256000,
                       theta=1e4, eps=1e-6, context=8192, tied=True, window=4096),
    "gemma-3-4b": dict(family="gemma3", dim=2560, layers=34, heads=8, kv=4, head=256, ff=10240, vocab=262144,
                       theta=1e6, eps=1e-6, context=131072, tied=True, window=1024),
    "phi-4-mini": dict(family="phi3", dim=3072, layers=32, heads=24, kv=8, head=128, ff=8192, vocab=200064,
                       theta=1e4, eps=1e-5, context=131072, tied=True, rotated=96),
}

# Of a format: its number in GGUF, weights of a block, bytes of a block.
FORMATS = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34), "q4_k": (12, 256, 144),
           "q5_k": (13, 256, 176), "q6_k": (14, 256, 210)}
# Of a mix: general.file_type, its usual format.
MIXES = {"f16": (1, "f16"), "q4_0": (2, "q4_0"), "q8_0": (7, "q8_0"), "q4_k_m": (15, "q4_k"), "q5_k_m": (17, "q5_k"),
         "q6_k": (18, "q6_k")}
