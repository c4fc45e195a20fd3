//! A terminal that is drawn on in place: its size, its keys, and its old state when all is done.

use std::io::{self, Stdin, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use super::view::Line;

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// q, Escape or the end of input.
    Leave,
    /// Any other: look again at once.
    Again,
}

/// Another screen than the one with the user's work; lines are cut, not wrapped; no cursor.
const BEGIN: &str = "\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[2J";
const END: &str = "\x1b[?25h\x1b[?7h\x1b[?1049l";

/// The terminal on stdin and stdout.
pub(super) struct Terminal {
    stdin: Stdin,
    /// As it was; nothing where stdin is no terminal, which has no keys then.
    was: Option<Termios>,
}

impl Terminal {
    /// Begins to draw.
    pub(super) fn open() -> io::Result<Terminal> {
        let stdin = io::stdin();
        let was = tcgetattr(&stdin).ok();
        if let Some(was) = &was {
            let mut now = was.clone();
            // Keys come as they are pressed and are not shown; Ctrl-C still is a signal. Stopping in the middle
            // would leave the terminal like that, so Ctrl-Z does nothing.
            now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            now.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(&stdin, OptionalActions::Now, &now)?;
        }
        let terminal = Terminal { stdin, was };
        write(BEGIN)?;
        Ok(terminal)
    }

    /// Columns and rows, now. Where nobody knows they are the usual ones.
    pub(super) fn size() -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    /// Draws lines over what was there, as many and as much of each as there is room for.
    pub(super) fn draw(lines: &[Line], size: (usize, usize), colour: bool) -> io::Result<()> {
        write(&frame(lines, size, colour))
    }

    /// Waits for a key, so long at most.
    pub(super) fn key(&mut self, wait: Duration) -> Option<Key> {
        if self.was.is_none() {
            std::thread::sleep(wait);
            return None;
        }
        let wait = Timespec::try_from(wait).ok()?;
        // A signal ends the wait, too.
        let ready = poll(&mut [PollFd::new(&self.stdin, PollFlags::IN)], Some(&wait)).unwrap_or(0);
        if ready == 0 {
            return None;
        }
        let mut byte = [0; 64];
        match rustix::io::read(&self.stdin, &mut byte) {
            Ok(0) => Some(Key::Leave),
            Ok(read) if byte[..read].iter().any(|key| matches!(key, b'q' | b'Q' | 4)) => Some(Key::Leave),
            // Escape alone; arrows and the like begin with it.
            Ok(1) if byte[0] == 27 => Some(Key::Leave),
            Ok(_) => Some(Key::Again),
            Err(_) => None,
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = write(END);
        if let Some(was) = &self.was {
            let _ = tcsetattr(&self.stdin, OptionalActions::Now, was);
        }
    }
}

/// The bytes of a picture: from the corner, each line cleared behind its text, no line feed after the last,
/// which would scroll.
fn frame(lines: &[Line], (columns, rows): (usize, usize), colour: bool) -> String {
    let mut text = String::from("\x1b[H");
    for (at, line) in lines.iter().take(rows).enumerate() {
        if at > 0 {
            text.push_str("\r\n");
        }
        text.push_str(&line.drawn(columns, colour));
        text.push_str("\x1b[K");
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use super::super::view::{Line, Style};
    use super::frame;

    #[test]
    fn a_frame_fits_any_window() {
        let lines: Vec<Line> =
            (0..30).map(|at| Line::new().with(Style::Bold, format!("{at} {}", "ä".repeat(200)))).collect();
        for (columns, rows) in [(80, 24), (1, 1), (20, 3), (500, 100)] {
            let drawn = frame(&lines, (columns, rows), false);
            let plain = drawn.trim_start_matches("\x1b[H").replace("\x1b[K", "").replace("\x1b[J", "");
            let shown: Vec<&str> = plain.split("\r\n").collect();
            assert_eq!(shown.len(), rows.min(30));
            assert!(shown.iter().all(|line| line.chars().count() <= columns), "{columns}");
            assert!(!plain.contains('\x1b') && !drawn.ends_with('\n'));
        }
        assert!(frame(&lines, (80, 24), true).contains("\x1b[1m"));
    }
}
