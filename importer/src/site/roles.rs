//! One key, one role: whose certificates a site has, and that nobody has two parts.

use signing::sigstore::SigstoreKey;
use signing::{Certificates, ImagePolicy};

use super::Site;
use crate::approvals::Approvers;
use crate::error::Error;

impl Site {
    /// Who approves or promotes has no key of another role.
    pub(super) fn check_approvers(&self) -> Result<(), Error> {
        for (role, certificates) in self.approver_certificates() {
            for (name, others) in self.outside_certificates() {
                signing::distinct_roles(&[(role, certificates), (&name, others)])?;
            }
        }
        Ok(())
    }

    /// The certificates of those who approve and promote, with their role. One person may do both.
    pub(super) fn approver_certificates(&self) -> Vec<(&'static str, &Certificates)> {
        self.approvers.iter().flat_map(Approvers::certificates).collect()
    }

    /// Who releases is no courier.
    pub(super) fn check_couriers(&self) -> Result<(), Error> {
        for (name, rules) in self.couriers.iter().flat_map(|_| self.all_rules()) {
            let release = (format!("release ({name})"), rules.trust.certificates());
            let couriers = self.couriers.iter().map(|couriers| ("courier", couriers));
            signing::distinct_roles(&couriers.chain([(release.0.as_str(), release.1)]).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The cosign keys of those on the other side.
    pub(super) fn foreign_sigstore_keys(&self) -> impl Iterator<Item = &SigstoreKey> {
        self.all_rules().into_iter().flat_map(|(_, rules)| {
            let of_policy = rules.images.iter().flat_map(ImagePolicy::sigstore_keys);
            rules.sigstore_keys.iter().chain(of_policy)
        })
    }

    /// Whether a key of this site's own is nobody else's: `role` says what it is for.
    ///
    /// # Errors
    /// [`Error::RoleConflict`].
    pub fn suits(&self, role: &str, certificates: &Certificates) -> Result<(), Error> {
        for (name, others) in self.foreign_certificates() {
            signing::distinct_roles(&[(role, certificates), (&name, others)])?;
        }
        Ok(())
    }

    /// The certificates of everyone whose keys are not this site's, with their role.
    fn foreign_certificates(&self) -> Vec<(String, &Certificates)> {
        let mut found = self.outside_certificates();
        found.extend(self.approver_certificates().into_iter().map(|(role, certificates)| (role.into(), certificates)));
        found
    }

    /// The certificates of those on the other side, with their role: who releases, who signs images, and who carries them.
    fn outside_certificates(&self) -> Vec<(String, &Certificates)> {
        let mut found = Vec::new();
        for (stream, rules) in self.all_rules() {
            found.push((format!("release ({stream})"), rules.trust.certificates()));
            let images = rules.images.iter().flat_map(ImagePolicy::certificates);
            found.extend(images.map(|certificates| (format!("image policy ({stream})"), certificates)));
        }
        found.extend(self.couriers.iter().map(|couriers| ("courier".into(), couriers)));
        found
    }
}
