//! What a compiled file depends on: its text and that of everything it includes. For the emulator and for
//! the build script, which includes this file.

use std::path::{Path, PathBuf};

/// FNV-1a: the same on every machine and for every version of Rust.
#[derive(Clone)]
pub(crate) struct Hash(u64);

impl Hash {
    /// Of nothing.
    pub(crate) const NEW: Hash = Hash(0xcbf2_9ce4_8422_2325);

    /// Adds some bytes and an end.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a file and all it includes in quotes, each once. Includes are looked for beside the file, then
    /// in `folders`.
    ///
    /// # Errors
    /// A file that cannot be read, by name.
    pub(crate) fn add_file(&mut self, file: &Path, folders: &[PathBuf]) -> Result<(), String> {
        self.add_unseen(file, folders, &mut Vec::new())
    }

    /// Sixteen digits.
    pub(crate) fn digits(&self) -> String {
        format!("{:016x}", self.0)
    }

    fn add_unseen(
        &mut self,
        file: &Path,
        folders: &[PathBuf],
        seen: &mut Vec<PathBuf>,
    ) -> Result<(), String> {
        let fail = |error| format!("{}: {error}", file.display());
        let file = file.canonicalize().map_err(fail)?;
        if seen.contains(&file) {
            return Ok(());
        }
        seen.push(file.clone());
        let text = std::fs::read_to_string(&file).map_err(fail)?;
        self.add(text.as_bytes());
        for line in text.lines() {
            let Some(rest) = line.trim().strip_prefix("#include \"") else { continue };
            let name = rest.split('"').next().unwrap_or(rest);
            let beside = file.parent().map(|folder| folder.join(name));
            let named = folders.iter().map(|folder| folder.join(name));
            // What is nowhere is the compiler's to complain about.
            if let Some(path) = beside.into_iter().chain(named).find(|path| path.exists()) {
                self.add_unseen(&path, folders, seen)?;
            }
        }
        Ok(())
    }
}
