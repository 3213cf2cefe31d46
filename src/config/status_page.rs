//! Who may see the status page.

use super::key::{Key, Shape, Words};
use super::reader::Field;

pub(super) const STATUS_PAGE: Key = Key::defaulted(
    "status_page",
    Shape::Word(&Words {
        words: &[
            (
                StatusPage::Protected.name(),
                "as `/metrics`, by the token of `api_auth`; a browser asks for it as a password",
            ),
            (
                StatusPage::Open.name(),
                "whoever reaches the address; for services that something in front (Cloud Run's IAM) lets only the right \
                 people reach",
            ),
            (StatusPage::Off.name(), "there is none"),
        ],
        later: &[],
    }),
    || StatusPage::default().name().to_owned(),
    "who may see the status page, `GET /`, and the same as JSON, `GET /v1/tables`",
);

/// Who may see the status page. Key `status_page`, default `protected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatusPage {
    /// Whoever may see the metrics.
    #[default]
    Protected,
    /// Whoever reaches the address.
    Open,
    /// Nobody: there is no page.
    Off,
}

impl StatusPage {
    /// The word of the key `status_page`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Open => "open",
            Self::Off => "off",
        }
    }
}

pub(super) fn read(field: &Field<'_>) -> Option<StatusPage> {
    let pages = [StatusPage::Protected, StatusPage::Open, StatusPage::Off];
    field.parse(|text| {
        // `false` is what YAML 1.1 tools make of `off`.
        let word = if text == "false" { "off" } else { text };
        let page = pages.into_iter().find(|page| page.name() == word);
        page.ok_or_else(|| format!("`{text}` does not say who may see the page"))
    })
}
