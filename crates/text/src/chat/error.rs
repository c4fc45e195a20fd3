//! Why a conversation could not become a prompt.

use std::error::Error as _;
use std::fmt;

use super::environment::Raised;
use super::limits::Exceeded;

/// Where in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The template's name.
    pub template: String,
    /// Line, from 1, where known.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.template)?;
        match self.line {
            Some(line) => write!(f, ", line {line}"),
            None => Ok(()),
        }
    }
}

/// A template or a request that is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template is not Jinja as understood here.
    #[error("{place}: {detail}: use another template for this model")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        detail: String,
    },

    /// The template failed on this conversation.
    #[error(
        "{place}: {detail}: the template does not fit these messages; change them, or use another template"
    )]
    Render {
        /// Where.
        place: Place,
        /// What is wrong.
        detail: String,
    },

    /// The template refused this conversation by `raise_exception`.
    #[error("{place}: the template refuses these messages: {message}")]
    Raised {
        /// Where.
        place: Place,
        /// The template's words.
        message: String,
    },

    /// The template costs more than templates may.
    #[error("{place}: the template {what}: shorten the conversation, or use another template")]
    Limit {
        /// Where.
        place: Place,
        /// Which bound.
        what: String,
    },

    /// An argument for the template has a name that is taken.
    #[error("template argument \"{name}\" is set by the request itself: rename or remove it")]
    Reserved {
        /// The argument.
        name: String,
    },

    /// The request nests values beyond any use.
    #[error("the request nests JSON more than {limit} levels deep: flatten it")]
    Depth {
        /// Levels allowed.
        limit: usize,
    },

    /// No built-in format has this name.
    #[error("chat format \"{name}\" is not known: use one of {known}")]
    UnknownFormat {
        /// The name.
        name: String,
        /// All names.
        known: String,
    },

    /// The vocabulary's control tokens are too many or too long to search for.
    #[error("the control tokens of the vocabulary cannot be searched for ({0}): the file is damaged")]
    ControlTokens(String),

    /// A key of the file has another type than a template's.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
}

impl Error {
    /// The engine's error, in this crate's terms.
    pub(super) fn new(template: &str, err: &minijinja::Error) -> Self {
        use minijinja::ErrorKind;
        let mut place = Place { template: template.to_owned(), line: err.line() };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = err.source();
        while let Some(source) = cause {
            if let Some(Raised(message)) = source.downcast_ref() {
                return Self::Raised { place, message: message.clone() };
            }
            if let Some(Exceeded { what, line }) = source.downcast_ref() {
                place.line = place.line.or(*line);
                return Self::Limit { place, what: (*what).to_owned() };
            }
            cause = source.source();
        }
        let detail = err.detail().map_or_else(|| err.kind().to_string(), str::to_owned);
        match err.kind() {
            ErrorKind::OutOfFuel => {
                Self::Limit { place, what: "takes more steps than a prompt needs".into() }
            }
            ErrorKind::InvalidOperation if detail.starts_with("recursion limit") => {
                Self::Limit { place, what: "nests calls too deeply".into() }
            }
            ErrorKind::SyntaxError if detail.contains("maximum recursion") => {
                Self::Limit { place, what: "nests brackets or statements too deeply".into() }
            }
            ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownTest => {
                Self::Syntax { place, detail }
            }
            _ => Self::Render { place, detail },
        }
    }
}
