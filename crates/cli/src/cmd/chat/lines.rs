//! What the user types: from an editor on a terminal, line by line from a pipe.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use rustyline::Editor;
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use crate::failure::bad_input;

/// Most lines kept in the history.
const HISTORY: usize = 1000;
/// Longest line read from a pipe, in bytes.
const LONGEST: u64 = 64 << 20;

/// Where messages come from.
pub(super) enum Lines {
    Terminal { editor: Box<Editor<(), FileHistory>>, history: Option<PathBuf> },
    Pipe,
}

/// One message, or why there is none.
pub(super) enum Read {
    Line(String),
    Interrupted,
    End,
}

impl Lines {
    /// The editor where stdin and stdout are a terminal; `history` is read and, on [`Lines::save`],
    /// written.
    pub(super) fn open(history: Option<&Path>) -> anyhow::Result<Lines> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Lines::Pipe);
        }
        let config = Config::builder().max_history_size(HISTORY)?.auto_add_history(false).build();
        let store = FileHistory::with_config(&config);
        let mut editor = Editor::with_history(config, store)?;
        if let Some(path) = history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Terminal { editor: Box::new(editor), history: history.map(Path::to_path_buf) })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Lines::Terminal { .. })
    }

    /// The next message, which may have several lines.
    pub(super) fn read(&mut self) -> anyhow::Result<Read> {
        let message = message(&mut |first| self.line(if first { "> " } else { "… " }))?;
        if let (Lines::Terminal { editor, .. }, Read::Line(text)) = (&mut *self, &message)
            && !text.trim().is_empty()
        {
            editor.add_history_entry(text.as_str())?;
        }
        Ok(message)
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Read> {
        match self {
            Lines::Terminal { editor, .. } => match editor.readline(prompt) {
                Ok(line) => Ok(Read::Line(line)),
                Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
                Err(ReadlineError::Eof) => Ok(Read::End),
                Err(error) => Err(anyhow::anyhow!("cannot read from the terminal: {error}")),
            },
            Lines::Pipe => piped(&mut io::stdin().lock()),
        }
    }

    /// Keeps the history for the next time; where that is not possible, nothing is lost but comfort.
    pub(super) fn save(&mut self) {
        if let Lines::Terminal { editor, history: Some(path) } = self {
            let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
            let _ = folder.is_ok().then(|| editor.save_history(path));
        }
    }
}

fn piped(stdin: &mut impl BufRead) -> anyhow::Result<Read> {
    let mut bytes = Vec::new();
    let read = io::Read::take(stdin, LONGEST).read_until(b'\n', &mut bytes);
    read.map_err(|error| anyhow::anyhow!("cannot read stdin: {error}"))?;
    if bytes.is_empty() {
        return Ok(Read::End);
    }
    let ended = bytes.pop_if(|last| *last == b'\n').is_some();
    if !ended && bytes.len() as u64 == LONGEST {
        return Err(bad_input("a line of stdin is longer than 64 MiB"));
    }
    bytes.pop_if(|last| *last == b'\r');
    let text = String::from_utf8(bytes);
    Ok(Read::Line(text.map_err(|_| bad_input("stdin is not UTF-8; convert it, for example with iconv"))?))
}

/// Puts a message together: lines that end in a backslash and what stands between triple quotes.
/// `line` is told whether it reads a message's first line.
fn message(line: &mut dyn FnMut(bool) -> anyhow::Result<Read>) -> anyhow::Result<Read> {
    const QUOTES: &str = "\"\"\"";
    let first = match line(true)? {
        Read::Line(first) => first,
        other => return Ok(other),
    };
    let mut text = String::new();
    let mut current = first;
    if let Some(rest) = current.trim_start().strip_prefix(QUOTES) {
        current = rest.to_owned();
        loop {
            if let Some(last) = current.trim_end().strip_suffix(QUOTES) {
                text.push_str(last);
                return Ok(Read::Line(text));
            }
            text.push_str(&current);
            text.push('\n');
            match line(false)? {
                Read::Line(next) => current = next,
                // An end without closing quotes: what is there is the message.
                Read::End => return Ok(Read::Line(text)),
                Read::Interrupted => return Ok(Read::Interrupted),
            }
        }
    }
    while let Some(begun) = current.strip_suffix('\\') {
        text.push_str(begun);
        text.push('\n');
        match line(false)? {
            Read::Line(next) => current = next,
            Read::End => current = String::new(),
            Read::Interrupted => return Ok(Read::Interrupted),
        }
    }
    text.push_str(&current);
    Ok(Read::Line(text))
}

#[cfg(test)]
mod tests {
    use super::{Read, message, piped};

    fn messages(input: &str) -> Vec<String> {
        let mut stdin = input.as_bytes();
        let mut all = Vec::new();
        while let Read::Line(text) = message(&mut |_| piped(&mut stdin)).expect("the input is text") {
            all.push(text);
        }
        all
    }

    #[test]
    fn a_line_is_a_message() {
        assert_eq!(messages("Hi!\nWhat is 2+2?\r\n\nlast"), ["Hi!", "What is 2+2?", "", "last"]);
    }

    #[test]
    fn a_backslash_and_quotes_join_lines() {
        assert_eq!(messages("one\\\ntwo\nthree\n"), ["one\ntwo", "three"]);
        assert_eq!(messages("\"\"\"one\n\ntwo\"\"\"\nthree"), ["one\n\ntwo", "three"]);
        assert_eq!(messages("\"\"\"one\"\"\"\ntwo"), ["one", "two"]);
        assert_eq!(messages("\"\"\"open\n"), ["open\n"]);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(piped(&mut &b"a\xffb\n"[..]).is_err());
    }
}
