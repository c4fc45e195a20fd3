//! Why a model cannot be used.

/// Why a file cannot become a plan, or a plan cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself is wrong.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// No family of this name.
    #[error("{file}: architecture \"{name}\" is not supported; this build runs {known}")]
    Family {
        /// The file.
        file: String,
        /// `general.architecture`.
        name: String,
        /// The families we have.
        known: String,
    },
    /// Another kind of GGUF file.
    #[error("{file}: holds {what}, which is no model by itself; give the model it was made for")]
    NotAModel {
        /// The file.
        file: String,
        /// What it holds.
        what: &'static str,
    },
    /// A hyper-parameter outside what makes sense.
    #[error("{file}: {key} is {value}, {why}; the file is damaged or was converted wrongly")]
    Key {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// What is wrong with that.
        why: String,
    },
    /// An option of the family that we do not have.
    #[error(
        "{file}: {key} is {value}, which family {family} does not support here; convert the model without it"
    )]
    Option {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// The family.
        family: &'static str,
    },
    /// A tensor the family needs is not there.
    #[error("{file}: tensor {name} is missing; the file is incomplete or not a {family} model")]
    Missing {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// The family.
        family: &'static str,
    },
    /// A tensor has another shape than the hyper-parameters say.
    #[error("{file}: tensor {name} is {found}, the model's keys say {expected}; the file is damaged")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Columns × rows in the file.
        found: String,
        /// Columns × rows expected.
        expected: String,
    },
    /// A small vector in a format that is not a float.
    #[error("{file}: tensor {name} is {format}, a vector must be F32, F16 or BF16")]
    VectorFormat {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Its format.
        format: &'static str,
    },
    /// A tensor that the plan does not use: running without it would be a guess.
    #[error(
        "{file}: tensor {name} is not part of family {family} as known here; the model needs something this build lacks"
    )]
    Unused {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// The family.
        family: &'static str,
    },
    /// A vocabulary-only file.
    #[error("{file}: holds a vocabulary and no weights; it can only tokenize")]
    VocabularyOnly {
        /// The file.
        file: String,
    },
    /// The run does not fit.
    #[error("{what} needs {needed} bytes and {free} are free; {remedy}")]
    Memory {
        /// What was being loaded.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// What would fit.
        remedy: String,
    },
    /// The machine refused a thread or memory.
    #[error("{what}: {cause}; close other programs or lower --ctx-size and --threads")]
    Machine {
        /// What was asked for.
        what: String,
        /// What the system said.
        cause: String,
    },
    /// The device refused to load the model.
    #[error("{device}: {cause}")]
    Device {
        /// The device.
        device: String,
        /// What it said, and what helps.
        cause: String,
    },
    /// The backend lacks something the plan needs.
    #[error("{backend} cannot run {what}; use another --device")]
    Backend {
        /// The backend.
        backend: &'static str,
        /// The operation or format.
        what: String,
    },
}
