//! The `jetson-llm` program.
#![forbid(unsafe_code)]

fn main() {}
