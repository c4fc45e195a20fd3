//! The model being served, as far as requests need to know it.

use crate::error::Error;
use engine::service::{Closed, Service, Settings};
use engine::{Engine, Params};
use grammar::Grammars;
use serde_json::{Map, Value};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use text::Tokenizer;
use text::chat::{Chat, Message, Prompt, Request};

/// What was loaded, for [`crate::Handle::ready`].
pub struct Loaded {
    /// The name clients know the model by.
    pub name: String,
    /// The engine, with all its slots free.
    pub engine: Engine,
    /// The model's tokenizer, the engine's too.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat format.
    pub chat: Chat,
    /// What the model is told to be where a conversation does not say.
    pub system: Option<String>,
    /// Most answers at a time, most waiting, and for how long.
    pub parallel: usize,
    /// See [`Settings::queue`].
    pub queue: usize,
    /// See [`Settings::timeout`].
    pub timeout: Option<Duration>,
}

/// The model.
pub(crate) struct Model {
    pub(crate) name: String,
    /// When it was loaded, in seconds since 1970.
    pub(crate) created: u64,
    pub(crate) tokenizer: Arc<Tokenizer>,
    chat: Chat,
    pub(crate) system: Option<String>,
    pub(crate) service: Service,
    /// Most bytes of text that one token stands for.
    pub(crate) longest_token: usize,
    /// Most tokens the cache holds.
    pub(crate) cache: usize,
    /// Made when first needed: it takes time and memory.
    grammars: OnceLock<Option<Grammars>>,
}

impl Model {
    /// Starts the engine's thread; the system prompt is computed first.
    pub(crate) fn start(loaded: Loaded, closed: Closed) -> Result<Model, Error> {
        let Loaded { name, mut engine, tokenizer, chat, system, parallel, queue, timeout } = loaded;
        let prefix = system.as_deref().map(|system| prefix(&chat, &tokenizer, system)).unwrap_or_default();
        let mut preloaded = None;
        if !prefix.is_empty() && prefix.len() < engine.context() {
            let nothing = Params { max_tokens: Some(0), ..Params::default() };
            let failed = |error: engine::Error| Error::Engine(error.to_string());
            let id = engine.start(&prefix, &nothing).map_err(failed)?;
            engine.run(id, &|| false, &mut |_| {}).map_err(failed)?;
            preloaded = Some(id);
        }
        let options = *engine.runner().options();
        let longest = (0..tokenizer.len() as u32).map(|id| tokenizer.bytes(id).len()).max();
        let start = Instant::now();
        let service = Service::start(
            engine,
            Settings { parallel, queue, timeout, preloaded },
            Arc::new(move || start.elapsed()),
            closed,
        );
        Ok(Model {
            name,
            created: now() as u64,
            tokenizer,
            chat,
            system,
            service: service.map_err(Error::Start)?,
            longest_token: longest.unwrap_or(1).max(1),
            cache: options.pages * ::model::runner::PAGE,
            grammars: OnceLock::new(),
        })
    }

    /// A conversation as a prompt.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        arguments: Map<String, Value>,
    ) -> Result<Prompt, text::chat::Error> {
        let mut request = Request::new(messages);
        request.arguments = arguments;
        request.now = Some(now());
        self.chat.render(&request)
    }

    /// A prompt's tokens.
    pub(crate) fn encode(&self, prompt: &Prompt) -> Vec<u32> {
        let mut ids = Vec::new();
        prompt.encode(&self.tokenizer, &mut ids);
        ids
    }

    /// What compiles rules for the model's vocabulary, if it can follow any.
    pub(crate) fn grammars(&self) -> Option<&Grammars> {
        let make = || Grammars::new(self.tokenizer.clone(), grammar::Limits::default()).ok();
        self.grammars.get_or_init(make).as_ref()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The tokens with which all conversations under a system prompt begin: what two of them have in common. Empty
/// if the template refuses one.
pub fn prefix(chat: &Chat, tokenizer: &Tokenizer, system: &str) -> Vec<u32> {
    let conversation = |user: &str| {
        let messages = [Message::system(system), Message::user(user)];
        let mut request = Request::new(&messages);
        request.now = Some(now());
        let mut ids = Vec::new();
        if let Ok(prompt) = chat.render(&request) {
            prompt.encode(tokenizer, &mut ids);
        }
        ids
    };
    let (mut one, other) = (conversation("Hello"), conversation("2 + 2"));
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    one.truncate(common);
    one
}
