//! `perplexity`: how well a model predicts a text, by llama-perplexity's method.
//!
//! The text is cut into windows of `c` tokens; in each, the tokens after position c/2 are scored with
//! everything before them in the window as context. If the model wants a beginning-of-sequence token,
//! it takes the place of each window's first token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use model::Plan;
use serde_json::json;
use text::{EncodeOptions, Tokenizer};

use crate::args::{Machine, ModelFile, whole};
use crate::config::Config;
use crate::failure::bad_input;
use crate::screen::Screen;
use crate::target::Target;
use crate::{input, json, load, model_file};

/// llama-perplexity's usual window.
const WINDOW: usize = 512;

const EXAMPLES: &str = "\
Examples:
  jetson-llm perplexity -m model.gguf -f wiki.test.raw
  jetson-llm perplexity -m model.gguf -f wiki.test.raw -c 2048 --chunks 20 --json";

/// Measure how well a model predicts a text
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelFile,
    /// The text
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Windows to score; without it, or 0, all
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    chunks: Option<usize>,
    /// Compute with the slow reference interpreter
    #[arg(long)]
    reference: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Sums over scored tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    tokens: usize,
    /// Sum of −ln p.
    sum: f64,
    /// Sum of squares.
    squares: f64,
}

impl Score {
    fn add(&mut self, loss: f64) {
        self.tokens += 1;
        self.sum += loss;
        self.squares += loss * loss;
    }

    fn mean(&self) -> f64 {
        self.sum / self.tokens as f64
    }

    fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// Standard error of the perplexity: of the mean loss, times the slope of exp there.
    fn error(&self) -> f64 {
        let variance = self.squares / self.tokens as f64 - self.mean() * self.mean();
        (variance.max(0.0) / (self.tokens as f64 - 1.0)).sqrt() * self.perplexity()
    }
}

/// −ln of the probability that `logits` give to `token`.
fn loss(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - most).exp())).sum();
    sum.ln() - f64::from(logits[token as usize] - most)
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let screen = Screen::new(config, false);
    let mut target =
        if command.reference { Target::reference() } else { Target::open(&command.machine, config, screen)? };
    let file = model_file::open(command.model.model.as_deref(), config)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file)?);
    let machine = &load::settled(&file, &command.machine, &mut target, config, screen)?;
    let window = match load::context(&file, machine.positions().or(Some(WINDOW)), WINDOW)? {
        window @ 4.. => window,
        window => return Err(bad_input(format!("a window of {window} scores nothing; give -c 4 or more"))),
    };
    let (_, plan) = Plan::read(&file, Some(window))?;

    let text = input::without_last_line_feed(input::read_text(&command.file)?);
    let options = EncodeOptions { bos: tokenizer.add_bos(), special: false };
    let mut ids = tokenizer.encode_vec(&text, options);
    drop(text);
    if ids.len() < 2 * window {
        return Err(bad_input(format!(
            "the text has {} tokens and two windows of {window} are needed; give a longer text or a smaller -c",
            ids.len()
        )));
    }
    let all = ids.len() / window;
    let windows = command.chunks.filter(|&chunks| chunks > 0).map_or(all, |chunks| chunks.min(all));
    ids.truncate(windows * window);
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
        ids.iter_mut().step_by(window).for_each(|id| *id = bos);
    }

    let options = load::options(&plan, machine, window, config)?;
    let mut engine = load::engine(&file, &plan, &mut target, &options, None, machine, screen)?;
    let started = Instant::now();
    let first = window / 2;
    let mut score = Score::default();
    let mut progress = screen.steps("scoring", windows as u64);
    for (i, ids) in ids.chunks_exact(window).enumerate() {
        engine.logits(ids, first..window - 1, &mut |at, logits| score.add(loss(logits, ids[at + 1])))?;
        progress.say(format!("perplexity {:.4}", score.perplexity()));
        progress.add(1);
        if !screen.progress && !command.json && (i + 1) % windows.div_ceil(10) == 0 {
            screen.note(&format!("window {}/{windows}: perplexity {:.4}", i + 1, score.perplexity()));
        }
    }
    drop(progress);

    let seconds = started.elapsed().as_secs_f64();
    if command.json {
        return json::print(&json!({
            "model": file.name(),
            "perplexity": score.perplexity(),
            "standard_error": score.error(),
            "mean_loss": score.mean(),
            "tokens": score.tokens,
            "windows": windows,
            "n_ctx": window,
            "device": target.name(),
            "threads": options.threads,
            "seconds": seconds,
        }));
    }
    screen.note(&format!(
        "{windows} windows of {window} · {} tokens scored · {:.1} tok/s",
        score.tokens,
        (windows * window) as f64 / seconds
    ));
    crate::answer::line(&format!("perplexity {:.4} ± {:.4}", score.perplexity(), score.error()))
}

#[cfg(test)]
mod tests {
    use super::{Score, loss};

    #[test]
    fn a_loss_is_minus_the_log_of_a_softmax() {
        let logits = [1.0, 2.0, 3.0];
        let sum: f64 = logits.iter().map(|&x: &f32| f64::from(x).exp()).sum();
        assert!((loss(&logits, 1) - (sum.ln() - 2.0)).abs() < 1e-6);
        assert!((loss(&[1e30, -1e30], 0)).abs() < 1e-12);
    }

    #[test]
    fn equal_losses_have_no_error() {
        let mut score = Score::default();
        for _ in 0..4 {
            score.add(2.0);
        }
        assert!((score.perplexity() - 2f64.exp()).abs() < 1e-12);
        assert!(score.error() < 1e-6);
        score.add(7.0);
        // Losses 2 2 2 2 7: mean 3, variance 4, n − 1 = 4.
        assert!((score.error() - 3f64.exp()).abs() < 1e-9);
    }
}
