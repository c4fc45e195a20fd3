//! Tool calls and reasoning in what a model writes.

mod shape;

pub use self::shape::Shape;
