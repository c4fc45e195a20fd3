//! The machine: its sensors, its limits, and what they allow.
//!
//! - [`Root`] is where its files are: `/`, or a folder with a copy of them.
//! - [`Readings`] is everything it says at one moment; `record` keeps and plays back such moments.
//! - [`Sensors`] are the few of them that are asked for while tokens are made, without allocating.
//! - [`governor`] turns samples and time into limits; [`warnings`] says what is amiss, with a remedy.
//!
//! Nothing here looks at a clock or the environment, and what a machine lacks is never an error: a plain PC
//! has memory and control groups, and nothing else of what is read here. This crate knows nothing of models,
//! engines or devices; whoever makes tokens asks for limits and keeps them (see [`governor`]), and asks
//! [`Sensors::available`] before it takes memory.
#![forbid(unsafe_code)]

pub mod board;
pub mod clocks;
pub mod devices;
pub mod disk;
mod error;
pub mod governor;
pub mod groups;
pub mod memory;
pub mod nvpmodel;
pub mod pressure;
pub mod rails;
mod readings;
pub mod record;
mod root;
mod sensors;
pub mod thermal;
pub mod warnings;

pub use error::Error;
pub use readings::Readings;
pub use root::Root;
pub use sensors::{Sample, Sensors};
