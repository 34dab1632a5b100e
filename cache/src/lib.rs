//! Content-addressed store: digests, action keys, records, blobs.

mod digest;

pub use digest::Digest;
