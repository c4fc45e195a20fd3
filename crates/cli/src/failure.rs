//! How a run ends: exit codes and the one line that explains a failure.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::screen::size;

/// Failed while running.
const FAILED: u8 = 1;
/// The command line or a file it names is not usable.
const BAD_INPUT: u8 = 2;
/// Stopped by Ctrl-C, as shells report it: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// The user gave something unusable; the message says what and what to do.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// Ctrl-C ended the command; there is nothing to explain.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// An error about input, ready for `?`.
pub(crate) fn bad_input(message: impl Into<String>) -> anyhow::Error {
    BadInput(message.into()).into()
}

/// Prints help, the version or what is wrong with the command line, and gives the exit code.
pub(crate) fn command_line(mut said: clap::Error) -> ExitCode {
    if said.kind() == ErrorKind::InvalidSubcommand && said.get(ContextKind::SuggestedSubcommand).is_none() {
        let tip = "a prompt goes after -p, and a model's file after -m".into();
        said.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    match said.print() {
        _ if said.use_stderr() => ExitCode::from(BAD_INPUT),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error.into()),
    }
}

/// What needs how much, what is free and what would fit, in the unit people use.
pub(crate) fn too_little(what: &str, needed: u64, free: u64, remedy: &str) -> String {
    let (need, left) = (size(needed), size(free));
    if need == left {
        // Rounded to the same: only bytes tell them apart.
        return format!("{what} needs {needed} bytes and {free} are free; {remedy}");
    }
    format!("{what} needs {need} and {left} is free; {remedy}")
}

/// An error of loading, in the same words.
pub(crate) fn explain(error: &model::Error) -> String {
    match error {
        model::Error::Memory { what, needed, free, remedy } => too_little(what, *needed, *free, remedy),
        error => error.to_string(),
    }
}

/// Prints what went wrong, unless nobody is left to read it, and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // The reader has what it wanted (`| head`): not a failure.
        return ExitCode::SUCCESS;
    }
    if error.is::<Interrupted>() {
        return ExitCode::from(INTERRUPTED);
    }
    // Nothing can be done when stderr is closed as well.
    if error.is::<io::Error>() {
        // Errors of files say which; what comes bare is about the answer.
        let _ = writeln!(io::stderr(), "error: cannot write to stdout: {error}");
    } else {
        let text = error.downcast_ref::<model::Error>().map_or_else(|| error.to_string(), explain);
        let _ = writeln!(io::stderr(), "error: {text}");
    }
    ExitCode::from(code(error))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

fn code(error: &anyhow::Error) -> u8 {
    let for_file = |error: &gguf::Error| match error {
        gguf::Error::Read { .. } | gguf::Error::Write { .. } => FAILED,
        _ => BAD_INPUT,
    };
    if error.is::<BadInput>() {
        BAD_INPUT
    } else if let Some(error) = error.downcast_ref::<gguf::Error>() {
        for_file(error)
    } else if let Some(error) = error.downcast_ref::<model::Error>() {
        match error {
            model::Error::File(error) => for_file(error),
            model::Error::Memory { .. } | model::Error::Machine { .. } | model::Error::Device { .. } => {
                FAILED
            }
            _ => BAD_INPUT,
        }
    } else if let Some(error) = error.downcast_ref::<text::Error>() {
        match error {
            text::Error::Gguf(error) => for_file(error),
            _ => BAD_INPUT,
        }
    } else if let Some(error) = error.downcast_ref::<engine::Error>() {
        if matches!(error, engine::Error::Lost(_)) { FAILED } else { BAD_INPUT }
    } else if error.is::<text::chat::Error>() {
        BAD_INPUT
    } else {
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::too_little;

    #[test]
    fn amounts_are_told_apart() {
        let told = |needed, free| too_little("a.gguf", needed, free, "buy more");
        assert_eq!(told(3 << 30, 5 << 28), "a.gguf needs 3.0 GiB and 1.2 GiB is free; buy more");
        let near = told((3 << 30) + 1, 3 << 30);
        assert_eq!(near, "a.gguf needs 3221225473 bytes and 3221225472 are free; buy more");
    }
}
