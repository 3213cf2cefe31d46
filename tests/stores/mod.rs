//! Stores: one contract on each of them, and what a cloud adds.

mod contract;
mod google;
mod identity;
mod retries;
mod serve;
mod traffic;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [
        contract::tests(),
        google::tests(),
        identity::tests(),
        retries::tests(),
        serve::tests(),
        traffic::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
