//! Who may push: whoever something in front lets in, or whoever Google signs for.

use url::{Host, Url};

use super::key::{Forms, Key, Keys, List, Shape, Text, Words};
use super::reader::{Context, Field};

/// Where Google publishes the keys that it signs identity tokens with.
const GOOGLES_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// Who signs in Google's place, for tests: an address of this machine, as Google's tools name their emulators.
const EMULATOR: &str = "PUSH_KEYS_EMULATOR_HOST";

pub(super) const PUSH_AUTH: Key = Key::optional(
    "push_auth",
    Shape::Either(&Forms {
        accepted: "`off`, when something in front of the service (Cloud Run's IAM) lets only the push in, or \
                   `{audience: https://…, service_accounts: [push@p.iam.gserviceaccount.com]}`",
        forms: &[
            Shape::Word(&Words {
                words: &[(
                    "off",
                    "something in front (Cloud Run's IAM) lets only the push in",
                )],
                later: &[],
            }),
            Shape::Map(&SIGNED_PUSHES),
        ],
    }),
    "none; `serve` refuses to start without",
    "who may push: `{audience: …, service_accounts: […]}`, as the token that Google signs for each push says",
);
pub(super) const AUDIENCE: Key = Key::required(
    "audience",
    Shape::Text(&Text {
        accepted: "`audience: https://…`: the audience of the push subscription's token",
        pattern: Some(|| ".".to_owned()),
        any_scalar: false,
    }),
    "the audience that the push subscription asks for; if it names none, its endpoint's URL as it stands there",
);
pub(super) const SERVICE_ACCOUNTS: Key = Key::required(
    "service_accounts",
    Shape::List(&List {
        accepted: "a list of service accounts such as `[push@p.iam.gserviceaccount.com]`",
        item: Shape::Text(&Text {
            accepted: "the e-mail address of a service account",
            pattern: Some(|| r"^[^@\s]+@[^@\s]+$".to_owned()),
            any_scalar: false,
        }),
    }),
    "the service accounts of the push subscriptions, by their e-mail addresses",
);

const SIGNED_PUSHES: Keys = Keys {
    title: "push_auth",
    accepted: "a mapping such as `{audience: https://…, service_accounts: [push@p.iam.gserviceaccount.com]}`",
    keys: &[&[AUDIENCE, SERVICE_ACCOUNTS]],
    ..Keys::NONE
};

/// Who may push. Key `push_auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushAuth {
    /// `off`: whatever reaches the server was let in by what stands in front of it.
    Off,
    /// Whoever shows a token that Google signed.
    Signed(SignedPushes),
}

/// What the token of a push has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPushes {
    /// Key `audience`, required: whom the token is meant for.
    pub audience: String,
    /// Key `service_accounts`, required, at least one: for whom it is signed.
    pub service_accounts: Vec<String>,
    /// Where the keys are published that it may be signed with: Google's. The environment's `$PUSH_KEYS_EMULATOR_HOST`,
    /// which is for tests and has to be on this machine, stands in for Google.
    pub keys_url: String,
}

impl SignedPushes {
    /// Whether somebody else than Google signs.
    pub fn is_emulated(&self) -> bool {
        self.keys_url != GOOGLES_KEYS
    }
}

/// Reads the key `push_auth`.
pub(super) fn read(field: &Field<'_>) -> Option<PushAuth> {
    if !field.is_mapping() {
        return field.parse(|text| match text {
            // `false` is what YAML 1.1 tools make of `off`.
            "off" | "false" => Ok(PushAuth::Off),
            _ => Err(format!("`{text}` does not say who may push")),
        });
    }
    let mut keys = field.mapping()?;
    let audience = keys.key(&AUDIENCE).and_then(|audience| audience.name());
    let listed = keys.key(&SERVICE_ACCOUNTS).and_then(|field| field.items());
    let accounts = listed
        .unwrap_or_default()
        .iter()
        .filter_map(read_account)
        .collect();
    keys.finish();
    // One that misses something is a problem already: never open by accident.
    Some(PushAuth::Signed(SignedPushes {
        audience: audience?,
        service_accounts: accounts,
        keys_url: GOOGLES_KEYS.to_owned(),
    }))
}

fn read_account(field: &Field<'_>) -> Option<String> {
    field.parse(|text| {
        let is_part =
            |part: &str| !part.is_empty() && !part.contains(|c: char| c == '@' || c.is_whitespace());
        match text.split_once('@') {
            Some((name, domain)) if is_part(name) && is_part(domain) => Ok(text.to_owned()),
            _ => Err(format!("`{text}` is not one")),
        }
    })
}

/// Lets `$PUSH_KEYS_EMULATOR_HOST` stand in for Google. An empty one counts as not set.
pub(super) fn apply_emulator(auth: &mut Option<PushAuth>, cx: &Context<'_>, root: &Field<'_>) {
    let Some(PushAuth::Signed(signed)) = auth else {
        return;
    };
    let Some(host) = cx.variable(EMULATOR).filter(|text| !text.is_empty()) else {
        return;
    };
    match emulated(&host) {
        Some(url) => signed.keys_url = url,
        None => root.problem(format!(
            "the environment variable `{EMULATOR}`, whose keys would be trusted in place of Google's, is not an address of \
             this machine alone; set it to `127.0.0.1:PORT`, or unset it"
        )),
    }
}

/// The address of an emulator's keys, if it is one that only this machine reaches.
fn emulated(host: &str) -> Option<String> {
    let address = host.strip_prefix("http://").unwrap_or(host);
    let mut url = Url::parse(&format!("http://{address}")).ok()?;
    let is_here = match url.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name == "localhost",
    };
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_here || !is_bare || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    url.set_path("/oauth2/v3/certs");
    Some(url.into())
}
