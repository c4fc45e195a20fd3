//! The HTTP server: OpenAI's and Anthropic's interfaces over one engine.
//!
//! [`Server::bind`] takes a port, [`Server::start`] answers that the model is being loaded, and [`Handle::ready`]
//! serves it. Sockets are served by a few threads of tokio; requests are parsed, rendered and tokenized on others
//! (`body.rs`, `ask`); the engine's thread tells what it does through channels (`submitted.rs`), from which
//! responses are written, whole or as they come (`form`, `stream.rs`).
//!
//! Anybody may send anything: bytes, time, connections and the work of a request are all bounded, and what is
//! beyond is refused with a status and a reason.
#![forbid(unsafe_code)]

mod app;
mod ask;
mod body;
mod config;
mod error;
mod fields;
mod form;
mod gate;
mod model;
mod routes;
mod serve;
mod stall;
mod stream;
mod submitted;

pub use config::{Config, Log};
pub use error::Error;
pub use model::{Loaded, prefix};
pub use serve::{Handle, Server};
