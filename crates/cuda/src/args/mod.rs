//! Mirrors of the kernels' argument structures, one file a kernel file.
//!
//! Each structure knows its kernel's name and the shape of its launch; who fills in addresses answers for
//! what lies there.

pub mod attend;
pub mod begin;
pub mod common;
pub mod matvec;
pub mod pointwise;
pub mod rope;
pub mod skinny;
pub mod stage8;

pub use common::{Epilogue, Matrix, Output, Source};
