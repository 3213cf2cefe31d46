//! Google's services together, as far as they can be had here: what the requests to them look like, and the whole path.

mod documents;
mod path;
mod pushed;
mod start;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [documents::tests(), start::tests(), pushed::tests(), path::tests()]
        .into_iter()
        .flatten()
        .collect()
}
