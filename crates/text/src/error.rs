//! Why a tokenizer could not be made.

/// A vocabulary that is refused. Every message names the file and the key, and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key is missing, has another type or an impossible value.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),

    /// `tokenizer.ggml.model` names an algorithm that is not implemented.
    #[error(
        "{file}: tokenizer.ggml.model is \"{model}\": supported are gpt2 (BPE), gemma4 (BPE) and \
         llama (SentencePiece)"
    )]
    UnknownModel {
        /// File name.
        file: String,
        /// The value.
        model: String,
    },

    /// `tokenizer.ggml.pre` is absent although the model is BPE: splitting would be a guess.
    #[error(
        "{file}: tokenizer.ggml.pre is missing, so how text is split before BPE is unknown: convert the \
         model again, or set the key to the name of its pre-tokenizer"
    )]
    MissingPre {
        /// File name.
        file: String,
    },

    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not in the table.
    #[error("{file}: tokenizer.ggml.pre is \"{pre}\", which is not known; known are {known}")]
    UnknownPre {
        /// File name.
        file: String,
        /// The value.
        pre: String,
        /// All names of the table.
        known: String,
    },

    /// An array beside the tokens has another length.
    #[error("{file}: {key} has {found} values for {tokens} tokens: the file is damaged")]
    Length {
        /// File name.
        file: String,
        /// The array.
        key: &'static str,
        /// Its length.
        found: usize,
        /// Length of `tokenizer.ggml.tokens`.
        tokens: usize,
    },

    /// A token that no vocabulary can have.
    #[error("{file}: token {id} of tokenizer.ggml.tokens {fault}: the file is damaged")]
    Token {
        /// File name.
        file: String,
        /// Index of the token.
        id: usize,
        /// What is wrong with it.
        fault: String,
    },

    /// A merge rule that cannot be read.
    #[error(
        "{file}: rule {index} of tokenizer.ggml.merges, \"{rule}\", is not two parts with a space between: the file is damaged"
    )]
    Merge {
        /// File name.
        file: String,
        /// Index of the rule.
        index: usize,
        /// The rule, shortened.
        rule: String,
    },

    /// A byte that no token stands for, so some texts would lose it.
    #[error(
        "{file}: tokenizer.ggml.tokens has no token for byte 0x{byte:02X} so some texts could not be written: convert the model again"
    )]
    MissingByte {
        /// File name.
        file: String,
        /// The byte.
        byte: u8,
    },

    /// The control and user-defined tokens need more memory to search for than is allowed.
    #[error(
        "{file}: the control tokens of tokenizer.ggml.tokens are too many or too long to search for: {reason}"
    )]
    Specials {
        /// File name.
        file: String,
        /// The search library's reason.
        reason: String,
    },
}
