//! The topic of the dead letters: a message without data, which says that a check was here.

use super::own::Own;
use super::remedy::Place;
use super::report::{Found, Gathered};
use super::{bounded, line};
use crate::config::{Config, process_env};
use crate::dead_letter::Topic;
use crate::error::Result;

/// Publishes to it, where there is one.
pub(super) async fn probe(config: &Config, own: &Own) -> Gathered {
    let Some(topic) = &config.dead_letter_topic else {
        return Gathered::default();
    };
    let probing = async {
        match bounded(publish(topic, own)).await {
            Ok(()) => Found::passed(
                "took a message without data, which its subscribers get: landfast passes it over",
            ),
            Err(error) => {
                let full_name = error.context("topic").unwrap_or(topic);
                Found::refused(&Place::Topic(full_name), &error)
            }
        }
    };
    line("dead-letter topic", topic, probing).await.into()
}

async fn publish(topic: &str, own: &Own) -> Result<()> {
    Topic::connect(topic, &process_env).await?.probe(own.name()).await
}
