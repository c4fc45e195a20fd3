//! Readings kept and played back: one JSON object a line, `{"at_ms": …, "readings": {…}}`. Time is the
//! caller's, counted from wherever it likes; it never runs backwards.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::{Error, Readings};

/// Readings and when they were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Milliseconds.
    pub at_ms: u64,
    /// What was read.
    pub readings: Readings,
}

/// Writes frames.
pub struct Recorder<W> {
    to: W,
}

impl<W: Write> Recorder<W> {
    /// Writes them to `to`.
    pub fn new(to: W) -> Recorder<W> {
        Recorder { to }
    }

    /// Writes one line.
    pub fn record(&mut self, at_ms: u64, readings: &Readings) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            at_ms: u64,
            readings: &'a Readings,
        }
        serde_json::to_writer(&mut self.to, &Line { at_ms, readings })?;
        self.to.write_all(b"\n")
    }

    /// Gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}

/// Plays frames back.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayer {
    frames: Vec<Frame>,
}

impl Replayer {
    /// Reads a whole recording. Blank lines are skipped; a field this version does not know is too.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Malformed`] and [`Error::Order`], with the line.
    pub fn read(from: impl BufRead) -> Result<Replayer, Error> {
        let mut frames: Vec<Frame> = Vec::new();
        for (text, line) in from.lines().zip(1..) {
            let text = text.map_err(|source| Error::Read { line, source })?;
            if text.trim().is_empty() {
                continue;
            }
            let frame: Frame = serde_json::from_str(&text)
                .map_err(|error| Error::Malformed { line, cause: error.to_string() })?;
            if frames.last().is_some_and(|last| frame.at_ms < last.at_ms) {
                return Err(Error::Order { line, at_ms: frame.at_ms });
            }
            frames.push(frame);
        }
        Ok(Replayer { frames })
    }

    /// All frames, in order.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// What was last read at or before a time.
    pub fn at(&self, at_ms: u64) -> Option<&Readings> {
        let after = self.frames.partition_point(|frame| frame.at_ms <= at_ms);
        Some(&self.frames[after.checked_sub(1)?].readings)
    }
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, board, pc};

    use super::{Recorder, Replayer};
    use std::io::BufRead;

    use crate::{Error, Readings, Root};

    #[test]
    fn what_was_recorded_comes_back_exactly() {
        let boards = [Model::OrinNanoSuper, Model::OrinNx16, Model::AgxOrin];
        let mut recorder = Recorder::new(Vec::new());
        let mut taken = Vec::new();
        for (model, at) in boards.into_iter().zip([0, 500, 900]) {
            let tree = board(model, JetPack::Seven);
            taken.push(Readings::take(&Root::at(tree.path()).expect("a folder")));
            recorder.record(at, taken.last().expect("just pushed")).expect("memory takes it");
        }
        let bytes = recorder.finish().expect("memory takes it");
        assert_eq!(bytes.lines().count(), 3);
        let replayer = Replayer::read(&*bytes).expect("what was just written");
        for (frame, readings) in replayer.frames().iter().zip(&taken) {
            assert_eq!(&frame.readings, readings);
        }
        assert_eq!(replayer.at(499), Some(&taken[0]));
        assert_eq!(replayer.at(500), Some(&taken[1]));
        assert_eq!(replayer.at(u64::MAX), Some(&taken[2]));
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let good = "{\"at_ms\": 5, \"readings\": {\"later_version\": 1}}\n\n";
        let replayer = Replayer::read(good.as_bytes()).expect("unknown fields are skipped");
        assert_eq!((replayer.at(4), replayer.at(5)), (None, Some(&Readings::default())));
        let damaged = format!("{good}{{\"at_ms\": 6");
        let error = Replayer::read(damaged.as_bytes()).expect_err("cut off");
        assert!(matches!(error, Error::Malformed { line: 3, .. }), "{error}");
        let backwards = format!("{good}{{\"at_ms\": 4, \"readings\": {{}}}}");
        let error = Replayer::read(backwards.as_bytes()).expect_err("backwards");
        assert!(matches!(error, Error::Order { line: 3, at_ms: 4 }), "{error}");
    }

    #[test]
    fn a_pc_has_memory_and_nothing_of_a_board() {
        let tree = pc();
        let readings = Readings::take(&Root::at(tree.path()).expect("a folder"));
        assert_eq!(readings.memory.available, Some(24_000_000 * 1024));
        assert_eq!((readings.watts(), readings.hottest(), readings.mode_gpu_hz()), (None, None, None));
        assert_eq!(readings.zones.len(), 1);
    }
}
