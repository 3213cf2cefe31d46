//! A part of a delivery is never taken for another part of it that the table has, even if nobody looked before.

use landfast::error::Error;
use libtest_mimic::Trial;

use super::{ACK_DEADLINE, House, Sent, declared, row, unavailable};
use crate::support::tables::orders;
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![part_of_another_division_is_refused_and_a_whole_delivery_is_a_letter]
}

fn send(house: &House, division: Option<u64>) -> TestResult<Sent> {
    let (mut delivery, sent) = house.delivery("divided", &row(1), ACK_DEADLINE)?;
    delivery.envelope.division = division;
    house.writers.accept(orders(), &house.config, delivery);
    Ok(sent)
}

async fn part_of_another_division_is_refused_and_a_whole_delivery_is_a_letter() -> TestResult {
    let house = House::new(declared());
    // Two at once: the second is no copy of the first.
    let (first, second) = (send(&house, Some(1))?, send(&house, Some(2))?);
    first.acked().await?;
    let by_other_rules = |error: Error| {
        unavailable(&error);
        assert!(error.message().contains("by other rules"), "{}", error.report());
    };
    by_other_rules(second.nacked().await?);
    by_other_rules(send(&house, Some(2))?.nacked().await?);
    assert!(send(&house, Some(1))?.acked().await?.0.duplicate);
    assert_eq!(house.letter_kinds().await?, Vec::<String>::new());
    let (receipt, _) = send(&house, None)?.acked().await?;
    assert_eq!((receipt.dead_letter_count, receipt.duplicate), (1, false));
    assert_eq!(house.letter_kinds().await?, ["redivided"]);
    assert_eq!(house.ids().await?, [1]);
    house.close().await
}
