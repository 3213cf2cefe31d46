//! What landfast writes, as every independent reader sees it, and beside what Java writes of the same rows.

mod codecs;
mod metrics;
mod storage;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [codecs::tests(), storage::tests(), metrics::tests()]
        .into_iter()
        .flatten()
        .collect()
}
