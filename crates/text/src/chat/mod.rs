//! Conversations to prompts, through the chat template a model brings along.
//!
//! Templates are Jinja written for Python. They are rendered by minijinja with Python's operators,
//! filters and methods on top, as transformers would render them; what a template may cost is bounded
//! (see `limits.rs`), and it reaches neither files nor the environment. Text of the request that looks
//! like a control token stays text (see `marks.rs`).
//!
//! ```
//! use text::chat::{Chat, Message, Request, Specials};
//!
//! let specials = Specials {
//!     bos: Some("<s>".into()),
//!     control: vec!["<s>".into(), "<|end|>".into()],
//!     ..Specials::default()
//! };
//! let source = "{{ bos_token }}{% for m in messages %}{{ m.content.strip() }}<|end|>{% endfor %}";
//! let chat = Chat::from_source("example", source, specials)?;
//!
//! let messages = [Message::system("Be brief. "), Message::user("Is <|end|> the end?")];
//! let prompt = chat.render(&Request::new(&messages))?;
//! assert_eq!(prompt.text(), "<s>Be brief.<|end|>Is <|end|> the end?<|end|>");
//! // The user's `<|end|>` is in a piece of its own, which holds no control tokens.
//! assert!(prompt.segments().iter().any(|s| !s.control && s.text == "Is <|end|> the end?"));
//! # Ok::<(), text::chat::Error>(())
//! ```

mod compile;
mod context;
mod environment;
mod error;
mod fallback;
mod filters;
mod json;
mod limits;
mod marks;
mod message;
mod methods;
mod ops;
mod predicates;
mod python;
mod request;
mod select;
mod time;

use std::sync::Arc;

use minijinja::AutoEscape;
use minijinja::machinery::{eval, make_string_output};

pub use self::error::Error;
pub use self::marks::Segment;
pub use self::message::Message;
pub use self::request::Request;

use self::context::Context;
use self::fallback::Fallback;
use self::limits::Budget;
use self::marks::{Finder, Marks};
use crate::{EncodeOptions, Kind, Tokenizer};

/// The tokens a template may write by name, and those a user's text must not become.
#[derive(Debug, Clone, Default)]
pub struct Specials {
    /// `bos_token`.
    pub bos: Option<String>,
    /// `eos_token`.
    pub eos: Option<String>,
    /// `unk_token`.
    pub unk: Option<String>,
    /// `pad_token`.
    pub pad: Option<String>,
    /// Texts of all control tokens, and of the unknown token.
    pub control: Vec<String>,
}

impl Specials {
    /// The special tokens of a file's vocabulary.
    pub fn from_gguf(file: &gguf::Gguf, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let text = |id: u32| String::from_utf8_lossy(tokenizer.bytes(id)).into_owned();
        let by_key = |key: &str| -> Result<Option<String>, Error> {
            Ok(file.opt_u32(key)?.filter(|&id| (id as usize) < tokenizer.len()).map(text))
        };
        Ok(Self {
            bos: tokenizer.bos().map(text),
            eos: tokenizer.eos().map(text),
            unk: by_key("tokenizer.ggml.unknown_token_id")?,
            pad: by_key("tokenizer.ggml.padding_token_id")?,
            control: (0..tokenizer.len() as u32)
                .filter(|&id| matches!(tokenizer.kind(id), Kind::Control | Kind::Unknown))
                .filter_map(|id| std::str::from_utf8(tokenizer.bytes(id)).ok().map(str::to_owned))
                .collect(),
        })
    }
}

/// A template with a name for messages.
#[derive(Debug, Clone)]
struct Template {
    name: String,
    source: String,
}

impl Template {
    fn new(name: &str, source: &str) -> Self {
        // Jinja knows one kind of line end.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        Self { name: name.to_owned(), source: compile::without_generation_blocks(&source) }
    }
}

/// The chat format of a model.
#[derive(Debug, Clone)]
pub struct Chat {
    template: Template,
    /// Another template some models have for requests with tools.
    tool_use: Option<Template>,
    specials: Specials,
    finder: Finder,
}

impl Chat {
    /// The format a file asks for: its template (`tokenizer.chat_template`, and
    /// `tokenizer.chat_template.tool_use` for requests with tools) or, where it has none, the format its
    /// control tokens belong to.
    pub fn from_gguf(file: &gguf::Gguf, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let specials = Specials::from_gguf(file, tokenizer)?;
        let key = "tokenizer.chat_template";
        match file.opt_str(key)?.filter(|source| !source.trim().is_empty()) {
            Some(source) => {
                let mut chat = Self::from_source(&format!("{} of {}", key, file.name()), source, specials)?;
                let key = "tokenizer.chat_template.tool_use";
                chat.tool_use = file
                    .opt_str(key)?
                    .map(|source| Template::new(&format!("{} of {}", key, file.name()), source));
                Ok(chat)
            }
            None => Self::for_vocabulary(specials),
        }
    }

    /// A format by its template; `name` is for messages.
    pub fn from_source(name: &str, source: &str, specials: Specials) -> Result<Self, Error> {
        let template = Template::new(name, source);
        // Compiled again for every prompt, which takes less than tokenizing one; here to report mistakes
        // before a conversation starts.
        compile::compile(&template.name, &template.source).map_err(|err| Error::new(&template.name, &err))?;
        let finder = Finder::new(&specials.control).map_err(|err| Error::ControlTokens(err.to_string()))?;
        Ok(Self { template, tool_use: None, specials, finder })
    }

    /// A built-in format: `llama3`, `chatml`, `gemma`, `phi3` or `generic`.
    pub fn named(name: &str, specials: Specials) -> Result<Self, Error> {
        match fallback::FALLBACKS.iter().find(|fallback| fallback.name == name) {
            Some(fallback) => Self::from_fallback(fallback, specials),
            None => Err(Error::UnknownFormat {
                name: name.to_owned(),
                known: Self::names().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The names [`Chat::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        fallback::FALLBACKS.iter().map(|fallback| fallback.name)
    }

    /// The built-in format that a vocabulary's control tokens belong to.
    pub fn for_vocabulary(specials: Specials) -> Result<Self, Error> {
        let fallback = fallback::choose(|token| specials.control.iter().any(|control| control == token));
        Self::from_fallback(fallback, specials)
    }

    fn from_fallback(fallback: &Fallback, specials: Specials) -> Result<Self, Error> {
        Self::from_source(fallback.name, &[fallback::TEXT, fallback.source].concat(), specials)
    }

    /// The template's name: its key and file, or a built-in format's.
    pub fn name(&self) -> &str {
        &self.template.name
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.template.source
    }

    /// The source of the template for requests with tools: the same, unless the model brings another.
    pub fn tool_source(&self) -> &str {
        &self.tool_use.as_ref().unwrap_or(&self.template).source
    }

    /// Renders a conversation. Costs are bounded, so this always ends, but it may take a few hundred
    /// milliseconds for a template that means harm.
    pub fn render(&self, request: &Request) -> Result<Prompt, Error> {
        let template = match &self.tool_use {
            Some(template) if request.tools.is_some() => template,
            _ => &self.template,
        };
        let size = request.measure()?;
        let ctx = Arc::new(Context {
            budget: Budget::new(size.texts.iter().map(|text| text.len()).sum(), size.nodes),
            marks: Marks::new(&self.finder, &template.source, &size.texts),
            now: request.now,
        });
        let root = request.variables(&ctx.marks, &self.specials);
        let fail = |err: minijinja::Error| Error::new(&template.name, &err);

        let env = environment::environment(&ctx);
        let (instructions, blocks) = compile::compile(&template.name, &template.source).map_err(fail)?;
        let mut rendered = String::new();
        eval(&env, &instructions, root, &blocks, &mut make_string_output(&mut rendered), AutoEscape::None)
            .map_err(fail)?;
        Ok(Prompt { segments: ctx.marks.segments(&rendered) })
    }
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    segments: Vec<Segment>,
}

impl Prompt {
    /// The text, for people.
    pub fn text(&self) -> String {
        self.segments.iter().map(|segment| segment.text.as_str()).collect()
    }

    /// The pieces, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Appends the tokens. A beginning-of-sequence token is put in front if the vocabulary wants one and
    /// the template did not write it.
    pub fn encode(&self, tokenizer: &Tokenizer, out: &mut Vec<u32>) {
        let start = out.len();
        for segment in &self.segments {
            tokenizer.encode(&segment.text, EncodeOptions { bos: false, special: segment.control }, out);
        }
        if let Some(bos) = tokenizer.bos()
            && tokenizer.add_bos()
            && out.get(start) != Some(&bos)
        {
            out.insert(start, bos);
        }
    }
}
