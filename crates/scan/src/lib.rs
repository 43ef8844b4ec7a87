//! What scanners say of images, and whether that is enough.
//!
//! [`Report::read`] recognises a report by its content and takes from it what a decision needs; [`Rules`] are what a site
//! demands; [`Rules::judge`] compares the two and gives a [`Verdict`] with its reasons. Nothing here reads a file or asks a
//! registry, and nothing here knows who vouches for a report: that is the flows' business.

mod formats;
mod judge;
mod report;
mod rules;
mod verdict;
mod vex;

pub use judge::{Carried, Dated, ImageFacts, OwnVex, PlatformFacts};
pub use report::{
    About, Counts, FailedCheck, Finding, Format, Kind, Product, ReadError, Report, Severity, Statement, Status,
    may_be_report,
};
pub use rules::{Exception, Gate, Honoured, Platforms, Required, RequiredError, Rules, Until, UntilError, Why};
pub use verdict::{Excuse, Excused, Made, Reason, Refusal, Refusals, ReportRow, Unused, Verdict};
