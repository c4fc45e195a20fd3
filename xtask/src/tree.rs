//! The tracked files of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The repository's root: the folder above this crate.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_path_buf()
}

/// What git prints for these arguments, run in the root.
pub(crate) fn git(args: &[&str]) -> Result<String> {
    let output =
        Command::new("git").args(args).current_dir(root()).output().context("git cannot be started")?;
    ensure!(
        output.status.success(),
        "git {} failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).context("git printed something other than UTF-8")
}

/// Paths of all tracked files that exist, relative to the root.
pub(crate) fn files() -> Result<Vec<String>> {
    let listed = git(&["ls-files", "-z"])?;
    // A file deleted but not yet committed is still listed.
    Ok(listed.split('\0').filter(|p| !p.is_empty() && root().join(p).is_file()).map(str::to_owned).collect())
}

/// Whether a path is code this project counts and judges.
pub(crate) fn is_code(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|e| e.to_str());
    matches!(extension, Some("rs" | "cu" | "cuh"))
}

/// The part of the project a file belongs to: `crates/NAME`, or its first folder.
pub(crate) fn part(path: &str) -> &str {
    let depth = if path.starts_with("crates/") { 2 } else { 1 };
    match path.match_indices('/').nth(depth - 1) {
        Some((end, _)) => &path[..end],
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_its_crate_or_folder() {
        assert_eq!(part("crates/quant/src/q4_k.rs"), "crates/quant");
        assert_eq!(part("xtask/src/main.rs"), "xtask");
        assert_eq!(part("rustfmt.toml"), ".");
    }

    #[test]
    fn this_file_is_found_among_the_tracked() {
        // An unpacked source archive has no git: nothing to check there.
        if let Ok(files) = files() {
            assert!(files.iter().any(|f| f == "Cargo.toml"));
        }
    }
}
