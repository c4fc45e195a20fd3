//! The GGUF file: keys, tensors, splits, a writer.
#![forbid(unsafe_code)]
