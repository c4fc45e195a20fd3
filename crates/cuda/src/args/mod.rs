//! Mirrors of the kernels' argument structures, one file a kernel file.

pub mod common;
