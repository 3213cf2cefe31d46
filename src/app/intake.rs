//! Deliveries on their way in: what each is, and where it goes.

use bytes::Bytes;
use iceberg::TableIdent;

use super::App;
use crate::config::SourceConfig;
use crate::dead_letter::is_of_check;
use crate::decode::{Reason, RejectKind};
use crate::error::Result;
use crate::route::{Route, Router};
use crate::telemetry::{self, within};
use crate::trigger::{Delivery, DeliveryId, Intake, ObjectEvent, Push, Receipt, is_forwarded};

impl Intake for App {
    fn named_table(&self, name: &str) -> Result<TableIdent> {
        Router::new(&self.config).named(name)
    }

    fn accept_rows(&self, table: TableIdent, delivery: Delivery) {
        let settings = Router::new(&self.config).settings(&table);
        self.writers.accept(table, &settings, delivery);
    }

    fn has_bucket(&self, bucket: &str) -> bool {
        let mut buckets = self.config.landing_buckets().into_iter();
        buckets.any(|location| location.bucket() == bucket)
    }

    fn accept_object(&self, object: ObjectEvent, delivery: Delivery) {
        // The landing is the process's, not the request's: a sender that hangs up does not stop it.
        let objects = self.objects.clone();
        tokio::spawn(within(delivery.trace, async move {
            objects.land(object, delivery).await;
        }));
    }

    fn identify(&self, push: &Push) -> DeliveryId {
        let subscription = push.subscription.as_str();
        let short = crate::route::short_name(subscription);
        let has = |source: &SourceConfig| {
            let mut names = source.subscriptions.iter();
            names.any(|name| name == subscription || name == short)
        };
        let by_id = |source: &str| DeliveryId::message(source, &push.message_id, push.publish_time);
        let Some((name, source)) = self.config.sources.iter().find(|(_, source)| has(source)) else {
            return by_id(subscription);
        };
        let Some(attribute) = &source.dedupe_attribute else {
            return by_id(name);
        };
        match push.attribute(attribute).filter(|value| !value.is_empty()) {
            Some(value) => DeliveryId::by_attribute(name, attribute, value),
            None => {
                self.tell_no_attribute(name, attribute);
                // Where copies are told by an attribute, the source may have subscriptions of two topics, whose message
                // ids may be equal: that to which a policy forwards is such.
                by_id(if is_forwarded(push) { subscription } else { name })
            }
        }
    }

    fn accept(&self, delivery: Delivery) {
        if is_of_check(&delivery.envelope.attributes, &delivery.payload) {
            telemetry::count_deliveries("check", 1);
            return delivery.ack.ack(Receipt::default());
        }
        let delivery = self.marked(delivery);
        match Router::new(&self.config).route(&delivery.envelope) {
            Route::Table(ident, table) => self.writers.accept(ident, &table, delivery),
            Route::ByRecord(_) => self.accept_by_record(delivery),
            Route::Nowhere(why) => {
                let reason = Reason {
                    kind: RejectKind::NoRoute,
                    message: why,
                    path: None,
                };
                self.dead_letter(delivery, reason);
            }
        }
    }

    fn accept_undecodable(&self, delivery: Delivery, raw: Bytes) {
        let message = "the message's `data` is not padded standard base64".to_owned();
        let reason = Reason {
            kind: RejectKind::BadBase64,
            message,
            path: None,
        };
        let delivery = Delivery {
            payload: raw,
            ..self.marked(delivery)
        };
        self.dead_letter(delivery, reason);
    }
}
