//! One model's vocabulary, ready to compile rules for.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{Constraint, Grammar, Rules};
use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{ParserFactory, TokenParser};
use serde_json::json;
use text::Tokenizer;

use crate::cache::Cache;
use crate::constraint::Following;
use crate::error::{Error, first_line};
use crate::limits::Limits;
use crate::source::Source;
use crate::vocabulary::Vocabulary;
use crate::{gbnf, lark, regex, schema};

/// Stack of a thread that compiles: the compiler recurses as deeply as schemas and references nest.
const STACK: usize = 32 << 20;

/// Tokens that are plain within a JSON text: they are allowed all at once where the text is free. llguidance's
/// own list of four such sets takes twice the memory and time to prepare, and finds masks no sooner.
const PLAIN: &str = r#"[^"\\\x00-\x1F\x7F]+"#;

/// Parsers of the same rules share what they learn until it takes this many bytes, by llguidance's count.
const SHARED: usize = 4 << 20;

/// Compiles rules for one model's vocabulary.
///
/// Made once a model: for 150,000 tokens it takes a few tenths of a second and some 30 MiB. May be used by
/// several threads.
pub struct Grammars {
    factory: ParserFactory,
    limits: Limits,
    ends: Arc<[u32]>,
    cache: Mutex<Cache>,
}

impl Grammars {
    /// For a tokenizer's vocabulary.
    ///
    /// # Errors
    /// [`Error::Vocabulary`].
    pub fn new(tokenizer: Arc<Tokenizer>, limits: Limits) -> Result<Grammars, Error> {
        let ends = tokenizer.ends().into();
        let fault = |error: &dyn fmt::Display| Error::Vocabulary { fault: first_line(error) };
        let factory = llguidance::panic_utils::catch_unwind(move || {
            let tokens: TokEnv = Arc::new(Vocabulary::new(tokenizer));
            ParserFactory::new(&tokens, InferenceCapabilities::default(), &[PLAIN.to_owned()])
        });
        let mut factory = factory.map_err(|error| fault(&error))?;
        factory.quiet();
        let bounds = factory.limits_mut();
        bounds.max_lexer_states = limits.states;
        bounds.initial_lexer_fuel = limits.fuel;
        bounds.verbose_errors = false;
        Ok(Grammars { factory, limits, ends, cache: Mutex::default() })
    }

    /// Rules for one kind of text. What was compiled lately is not compiled again.
    ///
    /// Takes milliseconds for what people ask for, and at most about a second.
    ///
    /// # Errors
    /// What cannot be followed, and where it was asked for.
    pub fn compile(&self, source: &Source) -> Result<Rules, Error> {
        let (key, named) = self.grammar(source)?;
        if let Some(compiled) = lock(&self.cache).get(&key.0) {
            return Ok(Rules(compiled));
        }
        let (parser, warm) = self.parser(key.1).map_err(|error| match source {
            Source::Object | Source::Schema(_) => {
                Error::Schema { path: String::new(), fault: first_line(&error) }
            }
            Source::Regex(_) => Error::Regex { fault: first_line(&error) },
            Source::Choice(_) => Error::Choice { fault: first_line(&error) },
            Source::Lark(_) | Source::Gbnf(_) | Source::Shape(_) => lark::refused(&error),
        })?;
        let compiled = Arc::new(Compiled {
            name: key.0.chars().take(80).collect(),
            shared: Mutex::new(Shared { warm, spoiled: Arc::default() }),
            fresh: Mutex::new(parser),
            ends: self.ends.clone(),
            named: named.into(),
        });
        lock(&self.cache).put(key.0, compiled.clone(), self.limits.kept, self.limits.kept_bytes);
        Ok(Rules(compiled))
    }

    /// How many compiled rules are kept.
    pub fn kept(&self) -> usize {
        lock(&self.cache).len()
    }

    /// What llguidance is to compile, with a name that says all of it, and the control tokens it names.
    fn grammar(&self, source: &Source) -> Result<((String, TopLevelGrammar), Vec<u32>), Error> {
        let limits = &self.limits;
        let of_schema = |schema| {
            let schema = schema::whitespace(schema::rewrite(schema, limits)?);
            Ok((format!("schema {schema}"), TopLevelGrammar::from_json_schema(schema)))
        };
        let of_lark = |lark: String| (format!("lark {lark}"), TopLevelGrammar::from_lark(lark));
        let mut named = Vec::new();
        let grammar = match source {
            Source::Object => of_schema(&json!({ "type": "object" }))?,
            Source::Schema(schema) => of_schema(schema)?,
            Source::Regex(pattern) => {
                regex::check(pattern, limits).map_err(|fault| Error::Regex { fault })?;
                let pattern = regex::whole(pattern);
                if pattern.is_empty() {
                    return Err(Error::Regex { fault: "it is empty; nothing can be written".to_owned() });
                }
                (format!("regex {pattern}"), TopLevelGrammar::from_regex(pattern))
            }
            Source::Lark(lark) => of_lark(lark::check(lark, limits)?.into_owned()),
            Source::Gbnf(gbnf) => of_lark(gbnf::lark(gbnf, limits)?),
            Source::Choice(choices) => {
                let bytes: usize = choices.iter().map(String::len).sum();
                if choices.is_empty() || choices.iter().any(String::is_empty) || bytes > limits.bytes {
                    let most = limits.bytes;
                    let fault = format!("there must be some, none empty, of at most {most} bytes together");
                    return Err(Error::Choice { fault });
                }
                let choices: Vec<String> = choices.iter().map(|choice| lark::quote(choice)).collect();
                of_lark(format!("start: CHOICE\nCHOICE: {}\n", choices.join(" | ")))
            }
            Source::Shape(shape) => {
                let (lark, ids) = lark::shape(shape, limits)?;
                named = ids;
                of_lark(lark)
            }
        };
        Ok((grammar, named))
    }

    /// Compiles on a thread of its own, whose stack is as large as the deepest schema needs: a parser, and a
    /// copy that may be moved on.
    fn parser(&self, grammar: TopLevelGrammar) -> Result<(TokenParser, TokenParser), String> {
        let compile = || {
            let mut parser = self.factory.create_parser(grammar).map_err(|error| format!("{error:#}"))?;
            parser.start_without_prompt();
            // Rules by which nothing can be written are found here, and not while a text is written.
            let mut warm = parser.deep_clone();
            warm.compute_mask().map_err(|error| match warm.stop_reason() {
                StopReason::NoExtensionBias => "no text follows it".to_owned(),
                _ => format!("{error:#}"),
            })?;
            Ok((parser, warm))
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
            let thread = thread.spawn_scoped(scope, compile).map_err(|error| error.to_string())?;
            thread.join().unwrap_or_else(|_| Err("the compiler failed".to_owned()))
        })
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Rules that were compiled.
pub(crate) struct Compiled {
    /// What was asked for, shortened.
    name: String,
    /// Never moved on.
    fresh: Mutex<TokenParser>,
    shared: Mutex<Shared>,
    ends: Arc<[u32]>,
    named: Arc<[u32]>,
}

/// A parser whose clones share the automaton that they extend.
struct Shared {
    warm: TokenParser,
    /// Whether a clone met an error, which is one of all of them then.
    spoiled: Arc<AtomicBool>,
}

impl Compiled {
    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let fresh = lock(&self.fresh).parser.lexer_stats().num_bytes;
        let shared = lock(&self.shared).warm.parser.lexer_stats().num_bytes;
        fresh + shared
    }
}

impl Grammar for Compiled {
    fn start(&self) -> Box<dyn Constraint> {
        let mut shared = lock(&self.shared);
        let spoiled = shared.spoiled.load(Ordering::Relaxed);
        if spoiled || shared.warm.parser.lexer_stats().num_bytes > SHARED {
            *shared = Shared { warm: lock(&self.fresh).deep_clone(), spoiled: Arc::default() };
        }
        let parser = shared.warm.clone();
        Box::new(Following::new(parser, self.ends.clone(), self.named.clone(), shared.spoiled.clone()))
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compiled").field(&self.name).finish()
    }
}

/// A lock whose holder's panic spoils nothing: what it guards is replaced or only read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
