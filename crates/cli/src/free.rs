//! How much memory this process may still take.

use platform::{Root, memory};

/// Bytes that could be taken without swapping, `None` where the system does not say: the least of what the
/// machine has, what its control groups allow and what the shell's limits allow.
pub(crate) fn available() -> Option<u64> {
    memory::available(&Root::real())
}

#[cfg(test)]
mod tests {
    use super::available;

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
