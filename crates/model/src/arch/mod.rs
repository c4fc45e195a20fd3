//! The list of families. One file each; a family is data: it fills a [`Spec`] and nothing else.

mod gemma2;
mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod read;
mod smollm3;

use crate::{Error, Spec};
use gguf::Gguf;
use read::Reader;

/// A family: its name in `general.architecture` and how its spec is read.
struct Family {
    name: &'static str,
    spec: fn(&Reader<'_>) -> Result<Spec, Error>,
}

/// Every family, in the order they are listed to users.
const FAMILIES: &[Family] = &[
    Family { name: "llama", spec: llama::spec },
    Family { name: "qwen2", spec: qwen2::spec },
    Family { name: "qwen3", spec: qwen3::spec },
    Family { name: "gemma2", spec: gemma2::spec },
    Family { name: "gemma3", spec: gemma3::spec },
    Family { name: "phi3", spec: phi3::spec },
    Family { name: "smollm3", spec: smollm3::spec },
];

/// The names of all families.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

/// Reads the spec of a model file.
///
/// # Errors
/// An unknown family by name; a key that is missing, of the wrong type or out of range.
pub fn spec(file: &Gguf) -> Result<Spec, Error> {
    if let Some(what) = companion(file)? {
        return Err(Error::NotAModel { file: file.name().to_owned(), what });
    }
    let name = file.str("general.architecture")?;
    let family = FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| Error::Family {
        file: file.name().to_owned(),
        name: name.escape_default().take(64).collect(),
        known: names().collect::<Vec<_>>().join(", "),
    })?;
    if file.tensors().is_empty() {
        return Err(Error::VocabularyOnly { file: file.name().to_owned() });
    }
    (family.spec)(&Reader { file, family: family.name })
}

/// What a file holds that only goes with a model; `None` for models and what may be one.
fn companion(file: &Gguf) -> Result<Option<&'static str>, Error> {
    let architecture = file.opt_str("general.architecture")?;
    Ok(match (file.opt_str("general.type")?, architecture) {
        (_, Some("controlvector")) => Some("a control vector"),
        (Some("adapter"), _) => Some("an adapter (LoRA)"),
        (Some("mmproj"), _) | (_, Some("clip")) => Some("a projector for images or sound"),
        (Some("imatrix"), _) => Some("an importance matrix"),
        _ => None,
    })
}
