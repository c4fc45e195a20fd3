//! What compiling and following rules may cost.

/// Bounds; the defaults suit a machine with little memory and clients nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a schema or a list of choices.
    pub bytes: usize,
    /// Most bytes of a grammar.
    pub grammar_bytes: usize,
    /// Most bytes of one regular expression.
    pub regex_bytes: usize,
    /// Deepest nesting: schemas in schemas, references followed, parentheses.
    pub depth: usize,
    /// Most subschemas.
    pub schemas: usize,
    /// Most work to prepare the automaton that splits text into words of the grammar; 50,000 take a
    /// millisecond.
    pub fuel: u64,
    /// Most states of the automaton that splits text into words of the grammar, a few KiB each.
    pub states: usize,
    /// Most compiled grammars kept for the next request.
    pub kept: usize,
    /// Most bytes of all that is kept.
    pub kept_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 256 << 10,
            grammar_bytes: 64 << 10,
            regex_bytes: 16 << 10,
            depth: 64,
            schemas: 10_000,
            fuel: 500_000,
            states: 10_000,
            kept: 32,
            kept_bytes: 16 << 20,
        }
    }
}
