//! Words and tokens: tokenizers, chat templates, streaming text.
#![forbid(unsafe_code)]
