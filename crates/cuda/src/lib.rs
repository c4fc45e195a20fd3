//! Plans on NVIDIA GPUs.
//!
//! `driver` is the thin layer over the CUDA driver, opened at run time; `lab` is what tests of kernels
//! use, on the emulator and on a GPU alike.
#![allow(
    unsafe_code,
    reason = "the driver is a C library and kernels take addresses; every block says why it may"
)]

pub mod args;
pub mod driver;
#[doc(hidden)]
pub mod emulator;
#[doc(hidden)]
pub mod lab;
pub mod tile;
pub mod weights;
