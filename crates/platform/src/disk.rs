//! Room on disks.

use std::path::Path;

/// Bytes an ordinary user may still write where `path` lies; `None` if it is not there.
pub fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::free;

    #[test]
    fn there_is_room_somewhere() {
        assert!(free(&std::env::temp_dir()).is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(free("/no/such/folder".as_ref()), None);
    }
}
