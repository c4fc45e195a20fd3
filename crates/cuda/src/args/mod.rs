//! Mirrors of the kernels' argument structures, one file a kernel file.
//!
//! Each structure knows its kernel's name and the shape of its launch; who fills in addresses answers for
//! what lies there.

pub mod attend;
pub mod begin;
pub mod common;
pub mod matmul;
pub mod matvec;
pub mod pointwise;
pub mod roof;
pub mod rope;
pub mod sample;
pub mod skinny;
pub mod stage8;
pub mod stage_f16;

pub use common::{Epilogue, Matrix, Output, Source};
