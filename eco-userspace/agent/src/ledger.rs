// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What everyone used and burnt: counters that only grow, each joule in exactly one of the books,
//! and what of them outlives the agent.

pub mod accounts;
pub mod books;
mod resume;
pub mod saved;
pub mod window;
