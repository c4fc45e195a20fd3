//! What a model is.
//!
//! A file's metadata becomes a [`Spec`] (a family's facts, `arch/`), the spec becomes a [`Plan`]
//! (the forward pass as a flat list of fused operations, `emit`), and a backend runs the plan
//! (`runner`). The slow interpreter in `reference` is the specification every backend is held to.
#![forbid(unsafe_code)]

pub mod arch;
pub mod choose;
pub mod cost;
mod emit;
mod error;
pub mod kv;
pub mod plan;
pub mod reference;
pub mod rope;
pub mod runner;
mod spec;

pub use choose::{Chooser, Choosing, Chosen};
pub use error::Error;
pub use plan::Plan;
pub use runner::{Batch, Device, LoadOptions, Row, Runner};
pub use spec::{Activation, Layer, Rope, RopeFactors, RopeLayout, RopeScaling, Spec};

impl Plan {
    /// Reads the spec of `file`'s family and writes the plan for runs of up to `context` positions.
    ///
    /// `context` is `None` for the length the model was trained on. Every tensor the plan names is
    /// checked against the file: presence, shape and format.
    ///
    /// # Errors
    /// Names the file and the key or tensor that is missing, misshapen or unsupported.
    pub fn read(file: &gguf::Gguf, context: Option<usize>) -> Result<(Spec, Plan), Error> {
        let spec = arch::spec(file)?;
        let plan = emit::emit(file, &spec, context.unwrap_or(spec.context))?;
        Ok((spec, plan))
    }
}
