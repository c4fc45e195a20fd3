//! Plans on NVIDIA GPUs.
//!
//! `driver` is the thin layer over the CUDA driver, opened at run time. `device` finds a GPU; `check` and
//! `design` say what a plan needs before anything is allocated; `lower` says which of its ops are launched
//! together, and `launch` and `products` make launches of them; `weights` and `tile` bring matrices to the
//! device, into an `arena`; `kv`, `buffers` and `rows` are what a step reads and writes; `choose` is what
//! choosing tokens on the device takes; `runner` runs it all.
//! `roof` measures what memory gives and `nvml` reads power, for profiles.
//! `lab` is what tests of kernels use, on the emulator and on a GPU alike.
#![allow(
    unsafe_code,
    reason = "the driver is a C library and kernels take addresses; every block says why it may"
)]

pub mod arena;
pub mod args;
mod buffers;
mod check;
mod choose;
mod design;
mod device;
pub mod driver;
#[doc(hidden)]
pub mod emulator;
mod kv;
#[doc(hidden)]
pub mod lab;
mod launch;
mod lower;
pub mod nvml;
mod products;
pub mod roof;
mod rows;
mod runner;
pub mod tile;
pub mod weights;

pub use device::{Cuda, CudaOptions, Error};
