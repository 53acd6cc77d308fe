//! A finished run to look at: one HTML file with the cloud, the maps, and everything that the run has to say.
//!
//! [`making`] reads the run ([`reading`]) and writes the file. The cloud's points are put on a [`grid`] ([`quantise`]),
//! cut into cells ([`tiles`], for `engine view` as a tree: [`levels`]) and packed ([`pack`], [`data`]), photos and maps
//! are reduced ([`views`]), numbers become tables ([`facts`], [`sections`]) and charts ([`charts`]), and the doctor
//! says what there is to say ([`findings`]). [`page`] puts it together, [`assets`] has the style and the scripts, which
//! are plain modules in `assets/`. Nothing of a page comes from elsewhere: it works without a net, and its own policy
//! forbids it to ask for anything.
//!
//! docs/REPORT.md says how a report is read.

pub mod assets;
pub mod charts;
pub mod data;
pub mod facts;
pub mod findings;
pub mod grid;
pub mod levels;
pub mod making;
pub mod options;
pub mod pack;
pub mod page;
pub mod quantise;
pub mod reading;
pub mod sections;
pub mod tiles;
pub mod views;
