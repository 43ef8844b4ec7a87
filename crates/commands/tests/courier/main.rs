//! What a courier sees and says: `check` on several media, statements of custody.
#![allow(clippy::unwrap_used, missing_docs)]

mod custody;
mod media;
mod release;
