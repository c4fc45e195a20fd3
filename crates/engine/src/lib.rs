//! What to run next: sequences, sampling, the token loop.
#![forbid(unsafe_code)]
