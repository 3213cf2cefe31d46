//! Turns: how committers of one table make room for each other.
//!
//! Whoever committed last has the newest state and would win again, and again: a loser has to load the table first. So a
//! committer that others commit beside makes a short run of commits, then stands back for about as long as the others'
//! runs take. A loser waits longer with each lost attempt, but never longer than all the others would: more bad luck is
//! no reason to wait longer. The snapshots of the last seconds say how many they are, so that all of them see the same.
//! A winner that never pauses meets nobody, since it is the others who lose: who seems to be alone pauses too, more and
//! more seldom (decision 0007).

use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;

/// Commits without a pause after which a committer stands back. Who meets nobody doubles its runs.
const RUN: u32 = 4;
const LONGEST_RUN: u32 = 64;

const SHORTEST: Duration = Duration::from_millis(5);
/// A push does not wait longer for others than for its own commit, by far.
const LONGEST: Duration = Duration::from_secs(2);

/// What a committer knows of the others at its table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// How many share the table, this one included.
    company: u32,
    /// Commits without a pause that are a run.
    full: u32,
    /// When the last attempt ended, and how long it took.
    ended: Option<(Instant, Duration)>,
    /// Commits without a pause so far.
    run: u32,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            company: 1,
            full: RUN,
            ended: None,
            run: 0,
        }
    }
}

impl Turn {
    /// The table's snapshots say that so many share it.
    pub(super) fn met(&mut self, company: u32) {
        self.company = company;
        if company > 1 {
            self.full = RUN;
        }
    }

    /// An attempt that began then has ended, as a commit or not.
    pub(super) fn ended(&mut self, begun: Instant, committed: bool) {
        let now = Instant::now();
        let took = now - begun;
        let paused = self.ended.is_none_or(|(ended, _)| begun - ended >= took);
        self.run = match (committed, paused) {
            (true, false) => self.run.saturating_add(1),
            (true, true) => 1,
            (false, _) => 0,
        };
        self.ended = Some((now, took));
    }

    /// Until when a committer stands back before the first attempt of a change set; not at all within its run, nor where
    /// less than twice the time of an attempt would be left.
    pub(super) fn stands_back(&self, random: &Random, deadline: Instant) -> Option<Instant> {
        let (ended, took) = self.ended?;
        let round = match self.company {
            1 => took.saturating_mul(2),
            company => took.saturating_mul(company.saturating_mul(RUN)),
        };
        let others = round.min(LONGEST) / 2;
        let until = ended + others + random.jitter(others);
        (self.run >= self.full && until + took.saturating_mul(2) < deadline).then_some(until)
    }

    /// The committer stood back as it should, before a load.
    pub(super) fn stood_back(&mut self) {
        self.run = 0;
        self.full = self.full.saturating_mul(2).min(LONGEST_RUN);
    }

    /// How long an attempt waits after so many lost ones.
    pub(super) fn next(&self, lost: u32, random: &Random) -> Duration {
        let took = self.ended.map_or(SHORTEST, |(_, took)| took.max(SHORTEST));
        let more = 2u32.saturating_pow(lost).min(self.company.max(2));
        random.jitter(took.saturating_mul(more).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(10);

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    async fn commits(turn: &mut Turn, count: u32) {
        for _ in 0..count {
            let begun = Instant::now();
            tokio::time::advance(TOOK).await;
            turn.ended(begun, true);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_among_others_ends_with_a_pause_for_theirs() {
        let (mut turn, random) = (Turn::default(), Random::seeded(1));
        turn.met(8);
        commits(&mut turn, RUN - 1).await;
        assert_eq!(turn.stands_back(&random, later()), None);
        commits(&mut turn, 1).await;
        let (now, round) = (Instant::now(), TOOK * 8 * RUN);
        for _ in 0..100 {
            let until = turn.stands_back(&random, later());
            assert!(until.is_some_and(|until| until >= now + round / 2 && until <= now + round));
        }
        turn.stood_back();
        turn.met(8);
        commits(&mut turn, RUN - 1).await;
        assert_eq!(turn.stands_back(&random, later()), None);
        commits(&mut turn, 1).await;
        assert!(turn.stands_back(&random, later()).is_some());
        tokio::time::advance(TOOK).await;
        commits(&mut turn, 1).await;
        assert_eq!(
            turn.stands_back(&random, later()),
            None,
            "there was a pause without it"
        );
        turn.met(1000);
        commits(&mut turn, RUN).await;
        let until = turn.stands_back(&random, later());
        assert!(until.is_some_and(|until| until <= Instant::now() + LONGEST));
        let near = Instant::now() + LONGEST / 2;
        assert_eq!(turn.stands_back(&random, near), None, "no time would be left");
    }

    #[tokio::test(start_paused = true)]
    async fn who_seems_to_be_alone_pauses_more_and_more_seldom() {
        let (mut turn, random) = (Turn::default(), Random::seeded(1));
        for run in [4, 8, 16, 32, 64, 64] {
            commits(&mut turn, run - 1).await;
            assert_eq!(turn.stands_back(&random, later()), None);
            commits(&mut turn, 1).await;
            let now = Instant::now();
            let until = turn.stands_back(&random, later());
            assert!(until.is_some_and(|until| until >= now + TOOK && until <= now + TOOK * 2));
            turn.stood_back();
            turn.met(1);
        }
        turn.stood_back();
        turn.met(2);
        commits(&mut turn, RUN).await;
        assert!(turn.stands_back(&random, later()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn more_lost_attempts_wait_no_longer_than_all_others_would() {
        let (mut turn, random) = (Turn::default(), Random::seeded(1));
        assert!(
            (0..100).all(|_| turn.next(30, &random) <= SHORTEST * 2),
            "nothing is known"
        );
        commits(&mut turn, 1).await;
        turn.met(6);
        assert!((0..100).all(|_| turn.next(1, &random) <= TOOK * 2));
        assert!((0..100).any(|_| turn.next(30, &random) > TOOK * 4));
        assert!((0..100).all(|_| turn.next(30, &random) <= TOOK * 6));
        turn.met(u32::MAX);
        assert!((0..100).all(|_| turn.next(30, &random) <= LONGEST));
    }
}
