//! `keygen`: a key of one of the importing side's roles.

use clap::Args;
use commands::keygen;
use console::Failure;

/// Makes a key: production, cosign, ledger, approver or identity
#[derive(Debug, Args)]
#[group(id = "role-and-key")]
pub struct Keygen {
    /// What the key is for
    #[arg(value_enum)]
    role: RoleArg,
    #[command(flatten)]
    key: keygen::Keygen,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RoleArg {
    /// Signs images for production
    Production,
    /// Signs images for production in the form of cosign; always ECDSA with P-256, without a user id or an end
    Cosign,
    /// Signs the ledger's heads and receipts
    Ledger,
    /// Approves bundles, or promotes them; each person makes one of his own
    Approver,
    /// Opens bundles (age)
    Identity,
}

impl Keygen {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        self.key.run(match self.role {
            RoleArg::Production => keygen::Role::Production,
            RoleArg::Cosign => keygen::Role::Cosign,
            RoleArg::Ledger => keygen::Role::Ledger,
            RoleArg::Approver => keygen::Role::Approver,
            RoleArg::Identity => keygen::Role::Identity,
        })
    }
}
