//! Lines of code per crate, so that growth is seen when it happens.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Result;

use crate::tree;

/// Prints a table of files, lines and test lines per part, with the change since `base` if given.
pub(crate) fn run(base: Option<&str>) -> Result<()> {
    let mut parts: BTreeMap<String, Count> = BTreeMap::new();
    for path in tree::files()?.iter().filter(|p| tree::is_code(p)) {
        let text = std::fs::read_to_string(tree::root().join(path))?;
        parts.entry(tree::part(path).to_owned()).or_default().add(path, &text);
    }
    if let Some(base) = base {
        for (path, change) in changes(&tree::git(&["diff", "--numstat", "--no-renames", base, "--"])?) {
            if tree::is_code(path) {
                parts.entry(tree::part(path).to_owned()).or_default().change += change;
            }
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<20} {:>6} {:>7} {:>7} {:>8}", "part", "files", "code", "tests", "longest")?;
    let mut sum = Count::default();
    for (part, count) in &parts {
        print_row(&mut out, part, count, base)?;
        sum.join(count);
    }
    print_row(&mut out, "all", &sum, base)?;
    Ok(())
}

/// What is counted of one part.
#[derive(Default)]
struct Count {
    files: usize,
    code: usize,
    tests: usize,
    longest: usize,
    change: i64,
}

impl Count {
    fn add(&mut self, path: &str, text: &str) {
        let (code, tests) = split(path, text);
        self.files += 1;
        self.code += code;
        self.tests += tests;
        self.longest = self.longest.max(code + tests);
    }

    fn join(&mut self, other: &Self) {
        self.files += other.files;
        self.code += other.code;
        self.tests += other.tests;
        self.longest = self.longest.max(other.longest);
        self.change += other.change;
    }
}

fn print_row(out: &mut impl std::io::Write, name: &str, c: &Count, base: Option<&str>) -> Result<()> {
    write!(out, "{name:<20} {:>6} {:>7} {:>7} {:>8}", c.files, c.code, c.tests, c.longest)?;
    if base.is_some() {
        write!(out, "   {:+}", c.change)?;
    }
    writeln!(out)?;
    Ok(())
}

/// Lines of code and of tests: whole files under `tests/` or `benches/`, else what follows `#[cfg(test)]`.
fn split(path: &str, text: &str) -> (usize, usize) {
    let all = text.lines().count();
    let apart = ["tests", "benches"];
    let is_test = path.split('/').any(|f| apart.contains(&f)) || path.ends_with("/tests.rs");
    if is_test {
        return (0, all);
    }
    let code = text
        .lines()
        .zip(text.lines().skip(1))
        .position(|(line, next)| line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{'))
        .unwrap_or(all);
    (code, all - code)
}

/// Path and net change of each line of `git diff --numstat`; binary files have no numbers and are left out.
fn changes(numstat: &str) -> impl Iterator<Item = (&str, i64)> {
    numstat.lines().filter_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let added: i64 = fields.next()?.parse().ok()?;
        let removed: i64 = fields.next()?.parse().ok()?;
        Some((fields.next()?, added - removed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_apart() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(split("crates/x/src/a.rs", text), (2, 3));
        assert_eq!(split("crates/x/tests/a.rs", text), (0, 5));
        assert_eq!(split("crates/x/src/a/tests.rs", text), (0, 5));
        assert_eq!(split("crates/x/src/a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n"), (3, 0));
    }

    #[test]
    fn a_diff_is_summed_and_binary_files_are_passed_over() {
        let numstat = "10\t3\tcrates/a/src/b.rs\n-\t-\tx.gguf\n0\t7\tname with space.rs\n";
        let found: Vec<_> = changes(numstat).collect();
        assert_eq!(found, [("crates/a/src/b.rs", 7), ("name with space.rs", -7)]);
    }
}
