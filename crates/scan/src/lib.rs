//! What scanners say of images, and whether that is enough.
//!
//! [`Report::read`] recognises a report by its content and takes from it what a decision needs. Nothing here reads a file or
//! asks a registry, and nothing here knows who vouches for a report: that is the flows' business.

mod formats;
mod report;

pub use report::{
    About, Counts, FailedCheck, Finding, Format, Kind, Product, ReadError, Report, Severity, Statement, Status,
};
