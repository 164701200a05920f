//! The classic first programs of web frameworks. Their sessions know no framework: `bin/` has the
//! handlers for each.

pub mod chat;
pub mod ticker;
pub mod todos;
