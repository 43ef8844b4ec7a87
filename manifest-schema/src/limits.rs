//! The limits against hostile input, in one place. Recovery data has its own, and so have a few readers, beside their code.

/// Limits against hostile input. Sizes are in bytes unless the name says otherwise.
///
/// A value that is over its limit is refused with an error that names it; nothing is cut off silently.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The signed manifest of a bundle; it is held whole.
    pub manifest: u64,
    /// One detached signature file, or one simple signature.
    pub signature: u64,
    /// One sigstore bundle; a list of contents may be inside.
    pub sigstore_bundle: u64,
    /// `SHA256SUMS`, `LABEL.txt`.
    pub seal: u64,
    /// One image manifest or index. Registries refuse more than 4 MiB.
    pub document: u64,
    /// One blob.
    pub blob: u64,
    /// All blobs of a bundle together; the largest integer that JSON numbers carry exactly.
    pub total: u64,
    /// Images in one bundle.
    pub images: usize,
    /// Blobs in one bundle.
    pub blobs: usize,
    /// Documents and blobs of all images together, each counted for every image that has it.
    pub references: usize,
    /// Volumes in one bundle (the file name has four digits).
    pub volumes: u32,
    /// Labels in one bundle.
    pub labels: usize,
    /// Signatures and referrers of one image and of what belongs to it.
    pub attachments: usize,
    /// Simple signatures, and documents and payloads of cosign signatures, all of one bundle together.
    pub evidence: u64,
    /// Indexes and image manifests of one bundle that are kept in memory; more are read again where they are needed.
    pub held_documents: u64,
    /// The payload of one cosign signature.
    pub cosign_payload: u64,
    /// One report of a scanner.
    pub report: u64,
    /// What is kept in memory of the reports of one bundle, to judge its images by.
    pub reports: usize,
    /// How many referrers may refer to each other in a row.
    pub referrer_depth: usize,
    /// How deep indexes may nest.
    pub nesting: usize,
    /// Children of one index, or layers of one manifest.
    pub children: usize,
    /// Files beside each other in a bundle's folder.
    pub folder_entries: usize,
    /// The names of all entries of an archive that images are taken from, together.
    pub archive_names: usize,
    /// Links followed from one name to the next inside an archive.
    pub archive_links: usize,
    /// One PAX extended header.
    pub pax: u64,
    /// Zero bytes after the last entry of a tar archive.
    pub tar_padding: u64,
    /// log2 of the largest zstd window that is accepted (27 = 128 MiB, the format's recommended default).
    pub zstd_window_log: u32,
    /// log2 of the work of a scrypt-encrypted age identity that is accepted.
    pub scrypt_log_n: u8,
    /// What unlocking a cosign key may take, 128 · N · r · p of scrypt (RFC 7914): memory times passes.
    pub scrypt_work: u64,
    /// One answer of a registry that is not a blob: errors, tokens, tag lists.
    pub registry_answer: u64,
    /// Redirects followed for one request.
    pub redirects: u32,
    /// Signatures of one document. c/image fails at 128.
    pub lookaside_signatures: usize,
    /// Documents that refer to one document (OCI referrers).
    pub referrers: usize,
    /// OpenPGP packets in one signature file or message.
    pub openpgp_packets: usize,
    /// One statement of custody.
    pub statement: u64,
    /// Statements of custody beside each other.
    pub statements: u32,
    /// One request for an approval, approval, withdrawal or statement of who promotes, without its signature.
    pub approval: u64,
    /// One entry of the ledger.
    pub ledger_entry: u64,
    /// One receipt, without its signature.
    pub receipt: u64,
    /// One proof of what the ledger says of an image.
    pub proof: u64,
    /// One configuration, credential, key or certificate file.
    pub config: u64,
}

/// The limits in force.
pub const LIMITS: Limits = Limits {
    manifest: 256 << 20,
    signature: 1 << 20,
    sigstore_bundle: 32 << 20,
    seal: 8 << 20,
    document: 4 << 20,
    blob: 1 << 43,
    total: 1 << 53,
    images: 100_000,
    blobs: 1_000_000,
    references: 4_000_000,
    volumes: 9999,
    labels: 64,
    attachments: 10_000,
    evidence: 256 << 20,
    held_documents: 32 << 20,
    cosign_payload: 64 << 10,
    report: 64 << 20,
    reports: 256 << 20,
    referrer_depth: 8,
    nesting: 4,
    children: 10_000,
    folder_entries: 100_000,
    archive_names: 16 << 20,
    archive_links: 8,
    pax: 64 << 10,
    tar_padding: 64 << 10,
    zstd_window_log: 27,
    scrypt_log_n: 22,
    scrypt_work: 256 << 20,
    registry_answer: 4 << 20,
    redirects: 8,
    lookaside_signatures: 127,
    referrers: 1000,
    openpgp_packets: 64,
    statement: 64 << 10,
    statements: 1000,
    approval: 64 << 20,
    ledger_entry: 256 << 20,
    receipt: 64 << 20,
    proof: 1 << 30,
    config: 16 << 20,
};
