//! How many rows of prompts a step takes: many when nobody waits for tokens, few when somebody does.

use std::time::Duration;

/// Rows are given in pieces of this many, which kernels for many rows are made for.
const GRAIN: usize = 16;
/// Rows before anything was measured.
const FIRST: usize = 128;
/// Seconds a step of prompts may take when nobody is generating: a request is cancelled and another one begins
/// within that time.
const ALONE: f64 = 1.0;
/// Least and most seconds that prompts may add to a step while others are generating.
const BESIDE: (f64, f64) = (0.04, 0.25);
/// Share of a measurement in the running mean.
const WEIGHT: f64 = 0.25;

/// What steps were measured to take.
#[derive(Debug)]
pub(super) struct Pace {
    /// Most rows a step takes.
    most: usize,
    /// Seconds a row of a prompt takes.
    row: Option<f64>,
    /// Seconds of a step without prompts.
    decode: Option<f64>,
}

impl Pace {
    pub(super) fn new(most: usize) -> Pace {
        Pace { most, row: None, decode: None }
    }

    /// Rows of prompts for the next step, with `streams` answers being generated beside them.
    ///
    /// Prompts then take at most as long as two tokens of the others would have, within [`BESIDE`].
    pub(super) fn chunk(&self, streams: usize) -> usize {
        let Some(row) = self.row else {
            return if streams > 0 { GRAIN } else { FIRST }.min(self.most);
        };
        let allowed =
            if streams > 0 { (2.0 * self.decode.unwrap_or(0.0)).clamp(BESIDE.0, BESIDE.1) } else { ALONE };
        // Saturates where a row takes no time.
        let rows = (allowed / row) as usize;
        (rows / GRAIN * GRAIN).clamp(GRAIN, self.most.max(GRAIN)).min(self.most)
    }

    /// Takes in that a step took `took`, with `rows` rows of prompts and `streams` answers.
    pub(super) fn learn(&mut self, took: Duration, rows: usize, streams: usize) {
        let took = took.as_secs_f64();
        let mean = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| old + WEIGHT * (new - old)));
        if rows == 0 && streams > 0 {
            self.decode = mean(self.decode, took);
        } else if rows >= GRAIN {
            let rest = if streams > 0 { self.decode.unwrap_or(0.0) } else { 0.0 };
            // Never nothing: a step beside others is at least a quarter about its prompt.
            self.row = mean(self.row, (took - rest).max(took / 4.0) / rows as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Duration;

    #[test]
    fn prompts_take_turns_with_streams() {
        let mut pace = Pace::new(512);
        assert_eq!((pace.chunk(0), pace.chunk(1)), (128, 16));
        // A slow machine: 20 ms a row, 100 ms a token.
        pace.learn(Duration::from_millis(100), 0, 1);
        pace.learn(Duration::from_millis(2560), 128, 0);
        assert_eq!(pace.chunk(0), 48, "about a second");
        assert_eq!(
            pace.chunk(3),
            16,
            "two tokens' time would be 10 rows; fewer than 16 are not worth a step"
        );
        // A fast one: 50 us a row, 2 ms a token.
        let mut pace = Pace::new(512);
        pace.learn(Duration::from_millis(2), 0, 1);
        pace.learn(Duration::from_micros(25_600), 512, 0);
        assert_eq!((pace.chunk(0), pace.chunk(1)), (512, 512));
    }

    #[test]
    fn small_engines_and_still_clocks_are_served() {
        let mut pace = Pace::new(4);
        pace.learn(Duration::ZERO, 16, 0);
        assert_eq!((pace.chunk(0), pace.chunk(1)), (4, 4));
    }
}
