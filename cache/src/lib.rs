//! Content-addressed store: digests, action keys, records, blobs.
