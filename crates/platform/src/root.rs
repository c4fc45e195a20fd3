//! Where the files of a machine are: `/`, or a folder that holds a copy of them.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::Error;

/// More than any file read here holds; a fake or strange one is read no further.
const MOST: u64 = 1 << 20;

/// The root of a machine's files. What is absent or unreadable is `None`, never an error: every board
/// lacks some of them, and several fail to be read while the hardware behind them sleeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    folder: PathBuf,
}

impl Root {
    /// This machine.
    pub fn real() -> Root {
        Root { folder: PathBuf::from("/") }
    }

    /// A copy of a machine's files, as `--sysroot` names one.
    ///
    /// # Errors
    /// [`Error::NoRoot`] if it is no folder.
    pub fn at(folder: &Path) -> Result<Root, Error> {
        if folder.is_dir() {
            Ok(Root { folder: folder.to_path_buf() })
        } else {
            Err(Error::NoRoot { folder: folder.to_string_lossy().escape_default().to_string() })
        }
    }

    /// Whether this is the running machine.
    pub fn is_real(&self) -> bool {
        self.folder == Path::new("/")
    }

    /// Where a file of the machine, named from its `/`, lies. Links that name their target from `/` are
    /// followed inside the root, as on the machine itself; others lead where the file system says.
    pub fn path(&self, file: &str) -> PathBuf {
        let mut path = self.folder.join(file.trim_start_matches('/'));
        if !self.is_real() {
            // As many as Linux follows at most.
            for _ in 0..40 {
                let Ok(target) = fs::read_link(&path) else { break };
                let Ok(inside) = target.strip_prefix("/") else { break };
                // `..` would lead out of the root.
                let plain = inside.components().filter(|part| matches!(part, Component::Normal(_)));
                path = self.folder.join(plain.collect::<PathBuf>());
            }
        }
        path
    }

    /// What a link says, unresolved.
    pub(crate) fn link(&self, file: &str) -> Option<PathBuf> {
        fs::read_link(self.folder.join(file.trim_start_matches('/'))).ok()
    }

    /// Whether something is there.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    /// A file's text, without the blanks and NULs around it.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(file)).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
    }

    /// A file that holds one number.
    pub(crate) fn number<T: FromStr>(&self, file: &str) -> Option<T> {
        self.text(file)?.parse().ok()
    }

    /// The names in a folder whose rest after `prefix` is a number, in its order: `thermal_zone2` before
    /// `thermal_zone10`.
    pub(crate) fn numbered(&self, folder: &str, prefix: &str) -> Vec<(u32, String)> {
        let numbered = |name: String| Some((name.strip_prefix(prefix)?.parse().ok()?, name));
        let mut found: Vec<(u32, String)> = self.names(folder).into_iter().filter_map(numbered).collect();
        found.sort_unstable();
        found
    }

    /// The names in a folder, in order.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use testkit::board::Tree;

    use super::Root;

    #[test]
    fn absolute_links_stay_inside() {
        let tree = Tree::new();
        tree.write("/etc/nvpmodel/real.conf", "inside\n");
        tree.link("/etc/nvpmodel.conf", "/etc/nvpmodel/real.conf");
        tree.link("/etc/relative.conf", "nvpmodel/real.conf");
        tree.link("/etc/out", "/../../etc/passwd");
        tree.link("/etc/loop", "/etc/loop");
        let root = Root::at(tree.path()).expect("a folder");
        assert_eq!(root.text("/etc/nvpmodel.conf").as_deref(), Some("inside"));
        assert_eq!(root.text("/etc/relative.conf").as_deref(), Some("inside"));
        assert_eq!(root.text("/etc/out"), None);
        assert_eq!(root.text("/etc/loop"), None);
    }

    #[test]
    fn numbers_sort_as_numbers() {
        let tree = Tree::new();
        for name in ["zone10", "zone2", "zone", "zonex"] {
            tree.write(&format!("/a/{name}/type"), "t\n");
        }
        let root = Root::at(tree.path()).expect("a folder");
        let names: Vec<String> = root.numbered("/a", "zone").into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["zone2", "zone10"]);
    }

    #[test]
    fn what_is_no_folder_is_refused_by_name() {
        let error = Root::at("/no/such/folder".as_ref()).expect_err("absent");
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
