//! Why rules are refused.

/// Why rules cannot be compiled. All but [`Error::Vocabulary`] are the asker's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something in a JSON schema.
    #[error("the schema at {}: {fault}", if path.is_empty() { "its root" } else { path })]
    Schema {
        /// Where, as a JSON pointer.
        path: String,
        /// What is wrong and what to do.
        fault: String,
    },
    /// Something in a regular expression.
    #[error("the regular expression: {fault}")]
    Regex {
        /// What is wrong and what to do.
        fault: String,
    },
    /// Something in a grammar.
    #[error("the grammar at line {line}, column {column}: {fault}")]
    Grammar {
        /// From 1; the last one for what is wrong with the whole.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong and what to do.
        fault: String,
    },
    /// A list to choose from.
    #[error("the choices: {fault}")]
    Choice {
        /// What is wrong and what to do.
        fault: String,
    },
    /// The vocabulary cannot be made a tree.
    #[error("the model's vocabulary cannot follow rules: {fault}")]
    Vocabulary {
        /// What is wrong.
        fault: String,
    },
}

impl Error {
    /// Where in a schema, as a JSON pointer.
    pub fn path(&self) -> Option<&str> {
        match self {
            Error::Schema { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// The first line of what llguidance says, without its marks.
pub(crate) fn first_line(error: &dyn std::fmt::Display) -> String {
    let all = error.to_string();
    let line = all.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('<'));
    let line = line.unwrap_or("it cannot be compiled");
    let mut end = line.len().min(300);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_owned()
}
