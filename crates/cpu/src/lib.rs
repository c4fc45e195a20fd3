//! Plans on cores.
