//! The `nvcc` program of a toolkit.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Source, options};

/// An nvcc that answered.
pub(crate) struct Nvcc {
    path: PathBuf,
    /// Major and minor.
    pub(crate) version: (u32, u32),
}

impl Nvcc {
    /// The one on PATH, else the one of the toolkit named.
    pub(crate) fn find(home: Option<PathBuf>) -> Option<Nvcc> {
        let homes = home.into_iter().chain(["/usr/local/cuda".into()]);
        let named = homes.map(|h| h.join("bin/nvcc"));
        [PathBuf::from("nvcc")].into_iter().chain(named).find_map(|path| {
            let answer = Command::new(&path).arg("--version").output().ok()?;
            let version = release(&String::from_utf8_lossy(&answer.stdout))?;
            Some(Nvcc { path, version })
        })
    }

    /// Compiles a unit of `folder`.
    pub(crate) fn compile(
        &self,
        folder: &Path,
        unit: &Source,
        arch: u32,
        cubin: &Path,
    ) -> Result<(Vec<u8>, String), String> {
        let mut command = Command::new(&self.path);
        command.args(options(unit, arch)).args(["-cubin", "-Xptxas", "-v", "-o"]).arg(cubin);
        // Relative, so that line tables do not name this machine's folders.
        command.arg(&unit.name).current_dir(folder);
        let done = command.output().map_err(|e| format!("{}: {e}", self.path.display()))?;
        let log = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        if !done.status.success() {
            return Err(log);
        }
        let bytes = std::fs::read(cubin).map_err(|e| format!("{}: {e}", cubin.display()))?;
        Ok((bytes, log))
    }
}

/// The version in `Cuda compilation tools, release 12.6, V12.6.85`.
fn release(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once("release ")?;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}
