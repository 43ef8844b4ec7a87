//! Letting one bundle pass a rule that refuses it: explicit, with a reason, and recorded before it takes effect.

use clap::{Args, ValueEnum};
use console::Progress;
use ledger::{Ledger, Overridden, Rule, Subject};
use manifest_schema::OutsideText;

use crate::access::stamp;
use crate::error::Error;

/// Rules that this bundle may pass.
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// Let this bundle pass a rule that refuses it; needs --reason, and is recorded
    #[arg(long = "override", value_enum, value_name = "RULE", value_delimiter = ',', requires = "reason")]
    rules: Vec<RuleArg>,
    /// Why it may pass
    #[arg(long, value_name = "TEXT", requires = "rules")]
    reason: Option<String>,
}

/// A rule that can be overridden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuleArg {
    /// Nothing older than what has reached production
    Rollback,
    /// Nothing after its end
    Expired,
    /// One bundle for each number of a release line
    Number,
    /// A base that the ledger has as published; what it left is read instead
    Base,
    /// No ledger entry before the time of the last one
    Clock,
    /// As many approvals as are configured
    Approvals,
    /// No image that was withdrawn
    Withdrawn,
    /// No image whose reports of scanners are not enough
    Scan,
    /// No image that this site's own scanner refuses
    Scanner,
}

impl RuleArg {
    fn rule(self) -> Rule {
        match self {
            RuleArg::Rollback => Rule::Rollback,
            RuleArg::Expired => Rule::Expired,
            RuleArg::Number => Rule::Number,
            RuleArg::Base => Rule::Base,
            RuleArg::Clock => Rule::Clock,
            RuleArg::Approvals => Rule::Approvals,
            RuleArg::Withdrawn => Rule::Withdrawn,
            RuleArg::Scan => Rule::Scan,
            RuleArg::Scanner => Rule::Scanner,
        }
    }
}

impl Overrides {
    /// Whether any rule is named.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a bundle may go on, if what is named here were recorded.
    ///
    /// # Errors
    /// The ledger's refusal; or if it fails.
    pub fn preview(&self, ledger: &Ledger, subject: &Subject) -> Result<(), Error> {
        use ledger::Refusal as R;
        let is_named = |rule| self.rules.iter().any(|named| named.rule() == rule);
        match ledger.preview(&stamp()?, subject) {
            Err(ledger::Error::Refusal(refusal)) => match &refusal {
                R::Rollback { .. } if is_named(Rule::Rollback) => Ok(()),
                R::ClockBehind { .. } if is_named(Rule::Clock) => Ok(()),
                R::OtherBundle { .. } | R::OtherManifest { .. } if is_named(Rule::Number) => Ok(()),
                _ => Err(ledger::Error::Refusal(refusal).into()),
            },
            Err(e) => Err(e.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Records what is overridden for a bundle, unless it is in the ledger already.
    ///
    /// # Errors
    /// [`Error::NoReason`]; or if the ledger fails.
    pub fn record(&self, ledger: &mut Ledger, subject: &Subject, progress: &Progress) -> Result<(), Error> {
        let mut rules = Vec::new();
        for rule in self.rules.iter().map(|rule| rule.rule()) {
            if !rules.contains(&rule) && ledger.override_of(subject, rule)?.is_none() {
                rules.push(rule);
            }
        }
        if rules.is_empty() {
            return Ok(());
        }
        let reason = self.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
        let reason = OutsideText::new(reason.ok_or(Error::NoReason)?);
        let names: Vec<_> = rules.iter().map(|rule| rule.as_str()).collect();
        let overridden = Overridden { subject: subject.clone(), rules: rules.clone(), reason };
        let entry = ledger.override_rules(&stamp()?, overridden)?;
        progress.warn(format_args!("overridden for this bundle: {} (ledger entry {entry})", names.join(", ")));
        Ok(())
    }
}
