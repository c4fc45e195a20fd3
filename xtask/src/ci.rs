//! The steps of CI, run one after another; all of them run even when one fails.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::{house, kernels, lines, tree};

/// A step: its name, the cargo arguments, and variables added to its environment.
struct Step {
    name: &'static str,
    cargo: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

/// The steps that are cargo commands, quick ones first. `test` is the command README names, all failures shown.
const STEPS: &[Step] = &[
    Step { name: "fmt", cargo: &["fmt", "--all", "--check"], env: &[] },
    Step {
        name: "clippy",
        cargo: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        env: &[],
    },
    Step { name: "test", cargo: &["test", "--workspace", "--no-fail-fast"], env: &[] },
    Step {
        name: "doc",
        cargo: &["doc", "--workspace", "--no-deps"],
        env: &[("RUSTDOCFLAGS", "-D warnings")],
    },
];

/// A step that is a function of this program.
type Own = (&'static str, fn() -> Result<()>);

/// The steps that are no cargo commands but can be left out like them.
const OWN: [Own; 2] = [("house", house::run), ("kernels", kernels::run)];

/// The steps named by `--without STEP` options.
pub(crate) fn without(options: &[&str]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = options.iter();
    while let Some(&option) = rest.next() {
        ensure!(option == "--without", "unknown option {option}: `ci` takes --without STEP");
        let Some(&name) = rest.next() else { bail!("--without lacks the name of a step") };
        let known = OWN.iter().any(|&(own, _)| own == name) || STEPS.iter().any(|s| s.name == name);
        ensure!(known, "no step is called {name}");
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Runs every step not left out and fails with the names of those that failed.
pub(crate) fn run(without: &[String]) -> Result<()> {
    let mut failed = Vec::new();
    let wanted = |name: &str| !without.iter().any(|w| w == name);
    for (name, run) in OWN.into_iter().filter(|&(name, _)| wanted(name)) {
        eprintln!("xtask: {name}");
        if let Err(error) = run() {
            eprintln!("{error:#}");
            failed.push(name);
        }
    }
    for step in STEPS.iter().filter(|s| wanted(s.name)) {
        eprintln!("xtask: cargo {}", step.cargo.join(" "));
        let started = Instant::now();
        let status = Command::new(env!("CARGO"))
            .args(step.cargo)
            .envs(step.env.iter().copied())
            .current_dir(tree::root())
            .status()?;
        eprintln!("xtask: {} took {:.0} s", step.name, started.elapsed().as_secs_f64());
        if !status.success() {
            failed.push(step.name);
        }
    }
    lines::run(None)?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_left_out_by_name_and_unknown_ones_refused() {
        assert_eq!(without(&["--without", "test", "--without", "house"]).unwrap(), ["test", "house"]);
        assert!(without(&["--without", "tests"]).unwrap_err().to_string().contains("tests"));
        assert!(without(&["--without"]).is_err());
        assert!(without(&["--with", "test"]).is_err());
    }
}
