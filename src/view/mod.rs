//! A finished run, or a cloud, in the browser: a server for one page, the cloud's tiles and the views' pictures, for
//! clouds that are too large for a page of their own.
//!
//! [`shown`] holds what there is to see. [`serving`] listens, [`answers`] says what an address gives, [`hosts`] whom
//! the server answers. The page is that of [`crate::report`], with scripts that fetch what they need.
//!
//! docs/VIEW.md says how it is used and what it gives away.

pub mod answers;
pub mod hosts;
pub mod options;
pub mod serving;
pub mod shown;
