//! `serve`: the model over HTTP, for many at once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use model::runner::PAGE;
use model::{LoadOptions, Plan};
use server::{Config as ServerConfig, Loaded, Server};
use text::Tokenizer;
use text::chat::Chat;

use crate::args::{Limiting, Machine, ModelFile};
use crate::config::Config;
use crate::failure::bad_input;
use crate::free::Free;
use crate::limits::{self, Watch};
use crate::screen::{Screen, printable};
use crate::status::About;
use crate::target::Target;
use crate::{input, load, model_file};

const EXAMPLES: &str = "\
Examples:
  jetson-llm serve                                    the built-in model at http://127.0.0.1:8080
  jetson-llm serve -m model.gguf -c 8192 --parallel 4
  jetson-llm serve -m model.gguf --host 0.0.0.0 --api-key-file /etc/jetson-llm/key
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}'

Clients of OpenAI's interface use http://127.0.0.1:8080/v1 as their base URL.";

const SERVER: &str = "Server";

/// Idle conversations kept besides those that are answered.
const IDLE: usize = 8;
/// The share of free memory that idle conversations may take outside of the cache: one part of so many.
const OVERFLOW: u64 = 4;
/// The shortest context that -c auto divides the cache into.
const SHORTEST: usize = 256;

/// Serve a model over HTTP
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelFile,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    limiting: Limiting,
    /// Name or address to listen on; 0.0.0.0 for all
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", help_heading = SERVER)]
    host: String,
    /// Port to listen on; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080, help_heading = SERVER)]
    port: u16,
    /// Answers generated at a time, each with a context of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = SERVER)]
    parallel: u16,
    /// Answers that may wait; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(0..=10_000), help_heading = SERVER)]
    queue: u16,
    /// Seconds an answer may take, waiting included; 0 for any time
    #[arg(long, value_name = "S", default_value_t = 60, help_heading = SERVER)]
    timeout: u64,
    /// Key that clients must send; may be given several times. Other users see it in lists of processes
    #[arg(long, value_name = "KEY", help_heading = SERVER)]
    api_key: Vec<String>,
    /// File with such keys, one a line
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    api_key_file: Option<PathBuf>,
    /// File with what the model is told to be where a conversation does not say; computed once, at the start
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    system_file: Option<PathBuf>,
    /// Name under which clients may address the server, besides addresses and local names; * for all
    #[arg(long, value_name = "NAME", help_heading = SERVER, hide_short_help = true)]
    allow_host: Vec<String>,
    /// Origin of web pages that may use the server, besides those of this machine; * for all
    #[arg(long, value_name = "ORIGIN", help_heading = SERVER, hide_short_help = true)]
    allow_origin: Vec<String>,
    /// A line on stderr for each request; never what was asked or answered
    #[arg(long, help_heading = SERVER, hide_short_help = true)]
    log_requests: bool,
    /// Folder for conversations' caches; not supported yet
    #[arg(long, value_name = "DIR", hide = true)]
    kv_dir: Option<PathBuf>,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    if command.kv_dir.is_some() {
        return Err(bad_input(
            "--kv-dir is not supported yet: caches live as long as the server; leave it out",
        ));
    }
    let screen = Screen::new(config, false);
    let system = command.system_file.as_deref().map(system).transpose()?;
    let keys = keys(command)?;
    if keys.is_empty() && !is_loopback(&command.host) {
        screen.note(
            "warning: everybody who reaches this machine may use the server; --api-key-file asks them for a key",
        );
    }
    let server = Server::bind(ServerConfig {
        host: command.host.clone(),
        port: command.port,
        keys,
        origins: command.allow_origin.clone(),
        hosts: command.allow_host.clone(),
        log: command.log_requests.then(|| Arc::new(move |line: &str| screen.note(line)) as server::Log),
        ..ServerConfig::default()
    })
    .map_err(|error| bad_input(error.to_string()))?;
    // From here on clients are told that the model is being loaded.
    let server = server.start()?;

    let mut target = Target::open(&command.machine, config, screen)?;
    let watch = Watch::open(&command.machine, &command.limiting, &target, config, screen)?;
    let file = model_file::open(command.model.model.as_deref(), config)?;
    model::arch::spec(&file)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file)?);
    let chat = Chat::from_gguf(&file, &tokenizer)?;
    let prefix = system.as_deref().map_or(0, |system| server::prefix(&chat, &tokenizer, system).len());

    let machine = &load::settled(&file, &command.machine, &mut target, config, screen)?;
    let parallel = usize::from(command.parallel);
    let mut context = load::context(&file, machine.positions(), prefix + 1)?;
    if command.machine.fits_itself() {
        // What fits is for all of them together.
        context = (context / parallel).max(SHORTEST.min(context));
    }
    if prefix >= context {
        let problem = format!("--system-file has {prefix} tokens and a conversation {context} positions");
        return Err(bad_input(format!("{problem}; shorten it or raise --ctx-size")));
    }
    let (_, plan) = Plan::read(&file, Some(context))?;
    let options = load::options(&plan, machine, parallel, config)?;
    let options = LoadOptions {
        slots: parallel + IDLE,
        pages: parallel * context.div_ceil(PAGE) + prefix.div_ceil(PAGE),
        ..options
    };
    let mut engine =
        load::engine(&file, &plan, &mut target, &options, Some(tokenizer.clone()), machine, screen)?;
    // Idle conversations that must make room wait there. The guard takes it back before anybody stops.
    let shared = matches!(&target, Target::Gpu { cuda, .. } if cuda.device().integrated);
    let free = Free::read(&machine.root()?, shared, machine.reserve);
    engine.set_overflow(free.usable().unwrap_or(0) / OVERFLOW);
    let name = name(file.name());
    let about = About { command: "serve", model: file.name().to_owned(), device: target.name() };
    let guard = limits::guard(&mut engine, watch, &about);

    server.ready(Loaded {
        name,
        engine,
        tokenizer,
        chat,
        system,
        parallel,
        queue: usize::from(command.queue),
        timeout: (command.timeout > 0).then(|| Duration::from_secs(command.timeout)),
    })?;
    screen.note(&format!("listening on http://{}", server.address()));
    server.wait()?;
    drop(guard);
    Ok(())
}

/// The text of `--system-file`.
fn system(path: &Path) -> anyhow::Result<String> {
    let text = input::without_last_line_feed(input::read_text(path)?);
    if text.trim().is_empty() {
        let name = printable(&path.to_string_lossy());
        return Err(bad_input(format!("{name} is empty; leave --system-file out")));
    }
    Ok(text)
}

/// The keys of the command line and of its file.
fn keys(command: &Command) -> anyhow::Result<Vec<String>> {
    let mut keys = command.api_key.clone();
    if let Some(path) = &command.api_key_file {
        let text = input::read_text(path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let before = keys.len();
        keys.extend(lines.map(str::to_owned));
        if keys.len() == before {
            let name = printable(&path.to_string_lossy());
            return Err(bad_input(format!("{name} has no keys; put one into each line")));
        }
    }
    if keys.iter().any(|key| key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(bad_input("an API key must be visible ASCII characters without spaces; give another"));
    }
    Ok(keys)
}

/// Whether only this machine reaches an address.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What clients know a file's model by.
fn name(file: &str) -> String {
    let file = file.strip_suffix(" (built in)").unwrap_or(file);
    let last = file.rsplit('/').next().unwrap_or(file);
    let stem = last.strip_suffix(".gguf").unwrap_or(last);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.chars().take(100).map(plain).collect();
    if name.is_empty() { "model".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::{is_loopback, name};

    #[test]
    fn models_are_named_after_their_files() {
        assert_eq!(name("chat-7m (built in)"), "chat-7m");
        assert_eq!(name("/models/Qwen3 1.7B-Q4_K_M.gguf"), "Qwen3-1.7B-Q4_K_M");
        assert_eq!(name(""), "model");
    }

    #[test]
    fn loopback_is_this_machine_only() {
        assert!(["127.0.0.1", "::1", "localhost", "127.8.8.8"].into_iter().all(is_loopback));
        assert!(!["0.0.0.0", "::", "192.168.1.7", "board"].into_iter().any(is_loopback));
    }
}
