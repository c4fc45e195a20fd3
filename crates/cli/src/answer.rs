//! The answer on stdout, as it comes.

use std::io::{self, Write};

use crate::screen::{self, Screen, for_terminal};

/// Prints one line.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Text of a model, printed piece by piece.
pub(crate) struct Answer {
    terminal: bool,
    /// The first failure; nothing is printed after it.
    failed: Option<io::Error>,
}

impl Answer {
    pub(crate) fn new(screen: Screen) -> Answer {
        Answer { terminal: screen.answer_on_terminal, failed: None }
    }

    /// Prints a piece at once.
    pub(crate) fn push(&mut self, piece: &str) {
        if self.failed.is_some() || piece.is_empty() {
            return;
        }
        let mut out = io::stdout().lock();
        let written = if self.terminal {
            out.write_all(for_terminal(piece).as_bytes())
        } else {
            out.write_all(piece.as_bytes())
        };
        self.failed = written.and_then(|()| out.flush()).err();
        // What is said beside the answer may end its line, too.
        screen::set_mid_line(!piece.ends_with('\n'));
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.failed.is_some()
    }

    /// Ends the last line and says what went wrong, if anything did.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.end_line();
        self.failed.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn end_line(&mut self) {
        if screen::is_mid_line() {
            self.push("\n");
        }
    }
}

/// An answer that breaks off ends its line too: why comes on the next.
impl Drop for Answer {
    fn drop(&mut self) {
        self.end_line();
    }
}
