//! Agent.
pub mod api;
