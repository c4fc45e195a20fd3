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
    if let Some((_, ours)) = REWORDED.iter().find(|(theirs, _)| line.contains(theirs)) {
        return (*ours).to_owned();
    }
    let mut end = line.len().min(300);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_owned()
}

/// What llguidance says that means nothing to whoever wrote the schema, and what it means.
const REWORDED: &[(&str, &str)] = &[
    (
        "oneOf constraints are not supported",
        "`oneOf` is only supported where types or constants tell its options apart; use `anyOf`",
    ),
    (
        "Unsatisfiable schema",
        "no JSON is valid by it; look for a schema `false`, or bounds that exclude each other",
    ),
    ("are not disjoint", "`patternProperties` is only supported with patterns of which no name matches two"),
    (
        "circular references with sibling keys",
        "a reference that leads back to itself may have no other keywords beside it; move them",
    ),
    ("lexer precomputation failed", "it is too complex; use fewer and simpler patterns"),
    ("lexer configuration (grammar) too big", "it is too complex; use fewer and simpler patterns"),
    ("lookarounds not supported", "word boundaries, and anchors within a pattern, are not supported"),
    (
        "min/maxProperties only supported",
        "`minProperties` and `maxProperties` are only supported where all of `properties` are required",
    ),
];
