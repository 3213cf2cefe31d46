//! What the times of writes allow.

use tokio::time::Duration;

use super::report::{Ceiling, Timing};
use crate::config::ServerConfig;
use crate::trigger::Limits;

/// How many writes of a kind are timed, and for how long at most.
pub(super) const WRITES: usize = 20;
pub(super) const TIMING: Duration = Duration::from_secs(40);

/// The median and the slowest of some times; none of none.
pub(super) fn timing(of: &'static str, mut times: Vec<Duration>) -> Option<Timing> {
    times.sort_unstable();
    let (median, slowest) = (times.get(times.len() / 2)?, times.last()?);
    Some(Timing {
        of,
        count: times.len(),
        median_ms: milliseconds(*median),
        slowest_ms: milliseconds(*slowest),
    })
}

/// A message holds its request until its commit is durable, and a table has one commit under way. The next batch is handed
/// over when the requests are held up to the mark, whatever `commit_interval`: so many messages land with each commit.
pub(super) fn of(timings: &[Timing], server: &ServerConfig) -> Option<Ceiling> {
    let commit = timings.iter().find(|timing| timing.of == "commit")?;
    let held = Limits::new(0, server.max_in_flight_requests).pressure_mark();
    let seconds = commit.median_ms / 1000.0;
    Some(Ceiling {
        messages_per_second: (held as f64 / seconds) as u64,
        formula: format!(
            "{held} held requests (80 % of server.max_in_flight_requests) / {seconds:.3} s for a commit"
        ),
    })
}

fn milliseconds(time: Duration) -> f64 {
    // Two digits behind the point are more than a clock is worth.
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceiling_is_the_held_requests_over_a_commit() {
        let times = [900, 300, 310, 290, 5000].map(Duration::from_millis);
        let timing = timing("commit", times.to_vec()).unwrap();
        assert_eq!(
            (timing.count, timing.median_ms, timing.slowest_ms),
            (5, 310.0, 5000.0)
        );
        let ceiling = of(&[timing], &ServerConfig::default()).unwrap();
        assert_eq!(ceiling.messages_per_second, 2580);
        assert!(ceiling.formula.contains("800 held"), "{}", ceiling.formula);
        assert_eq!(super::timing("put", Vec::new()), None);
    }
}
