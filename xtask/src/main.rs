//! The project's own automation: `cargo xtask ci` does everything CI does.

fn main() {}
