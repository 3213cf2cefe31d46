//! Catalogs: one conformance suite on every backend, and what the storage catalog adds.

mod conformance;
mod storage;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    conformance::tests().into_iter().chain(storage::tests()).collect()
}
