//! Tiny models, oracles and helpers for tests.
#![forbid(unsafe_code)]
