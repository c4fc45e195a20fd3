//! Plans on cores.
#![allow(unsafe_code, reason = "kernels read weights through pointers; every block says why it may")]

mod isa;
mod simd;

pub use isa::Isa;
