//! What a model is: Spec, Plan, the reference interpreter, what a backend offers.
#![forbid(unsafe_code)]
