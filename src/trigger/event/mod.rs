//! What Google sends to `POST /`, told apart.
//!
//! | what | how it is known | source |
//! | --- | --- | --- |
//! | a message, wrapped | JSON with `message` and `subscription` | [push](https://cloud.google.com/pubsub/docs/push) |
//! | a message, unwrapped | the header `x-goog-pubsub-message-id` | [unwrapping](https://cloud.google.com/pubsub/docs/payload-unwrapping) |
//! | a CloudEvent, binary | the header `ce-type` | [binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md) |
//! | a CloudEvent, structured | the content type `application/cloudevents+json` | the same |
//!
//! A message may tell of an object: it has the attributes of a [notification](https://cloud.google.com/storage/docs/pubsub-notifications).
//! A CloudEvent does, or brings a message.

mod cloud_event;
#[cfg(test)]
mod golden;
mod object;
mod unwrapped;

use axum::http::HeaderMap;

use super::http::{is_json, media_type};
use super::push::Push;
use crate::error::{Error, ErrorKind, Result};

pub use self::object::ObjectEvent;

/// What an object's event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// There is a new generation of the object.
    Finalized(ObjectEvent),
    /// Nothing that could land; how Google names it.
    Other(&'static str),
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A message. It may be a notification: [`Told::by_message`].
    Message(Push),
    /// An object, by Eventarc.
    Object(Told),
}

/// The forms of a request, by its headers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Wrapped,
    Unwrapped,
    Binary,
    Structured,
}

impl Form {
    /// Tells the form of a request before its body is read.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedFormat`] for a content type that no form has.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self> {
        if headers.contains_key(unwrapped::MESSAGE_ID) {
            return Ok(Self::Unwrapped);
        }
        if headers.contains_key(cloud_event::TYPE) {
            return Ok(Self::Binary);
        }
        match media_type(headers).as_deref() {
            Some(cloud_event::STRUCTURED) => Ok(Self::Structured),
            // A sender that names no type is believed.
            None => Ok(Self::Wrapped),
            Some(name) if is_json(name) => Ok(Self::Wrapped),
            Some(_) => Err(Error::new(
                ErrorKind::UnsupportedFormat,
                "An event has the content type application/json, or the headers of an unwrapped push or a CloudEvent. A \
                 subscription with payload unwrapping needs \"write metadata\": without it a message has no id.",
            )),
        }
    }

    /// Reads a request of this form.
    ///
    /// # Errors
    /// [`ErrorKind::NotAnEvent`] when it is none.
    pub(super) fn read(self, headers: &HeaderMap, body: bytes::Bytes) -> Result<Event> {
        match self {
            Self::Wrapped => Push::parse(&body).map(Event::Message),
            Self::Unwrapped => unwrapped::read(headers, body).map(Event::Message),
            Self::Binary => cloud_event::binary(headers, &body),
            Self::Structured => cloud_event::structured(&body),
        }
    }
}

fn not_an_event(message: &str) -> Error {
    Error::new(ErrorKind::NotAnEvent, message)
}
