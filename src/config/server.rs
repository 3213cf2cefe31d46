//! The HTTP server: where it listens, whom it lets in, and how much it holds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::key::{Key, Keys, Shape, Text};
use super::push_auth::{self, PUSH_AUTH, PushAuth};
use super::quantity::{duration_text, size_text};
use super::reader::{Context, Field};
use super::status_page::{self, STATUS_PAGE, StatusPage};
use crate::error::{Error, ErrorKind, Result};

/// The subscription's acknowledgement deadline that Pub/Sub allows.
const ACK_DEADLINES: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);

/// What may be held where neither the key nor a limit of the memory says it.
const HELD_BYTES: u64 = 256 << 20;

/// The memory is so many times what may be held.
const MEMORY_PER_HELD_BYTE: u64 = 4;

pub(super) const LISTEN: Key = Key::defaulted(
    "listen",
    Shape::Text(&ADDRESS),
    || ServerConfig::default().listen.to_string(),
    "IP address and port; the environment's `PORT`, which Cloud Run sets, wins over the port",
);
pub(super) const API_AUTH: Key = Key::optional(
    "api_auth",
    Shape::Map(&API_AUTH_KEYS),
    "none: open on a loopback address to callers by the machine's own names, refused elsewhere",
    "who may send records, and see `/metrics` and the status page",
);
pub(super) const BEARER: Key = Key::required(
    "bearer",
    Shape::Text(&Text {
        accepted: "`bearer: \"${API_TOKEN}\"`: a token of visible ASCII characters",
        pattern: Some(|| "^[!-~]+$".to_owned()),
        any_scalar: true,
    }),
    "the token that callers send, of visible ASCII characters; never printed",
);
pub(super) const MAX_IN_FLIGHT_BYTES: Key = Key::optional(
    "max_in_flight_bytes",
    Shape::Size,
    "a quarter of the container's memory limit, at least `max_body_bytes`; `256MiB` where there is no limit",
    "payload held at one time; past it 429. A held byte is reckoned to take three of memory: its own, and two as columns \
     and Parquet; the fourth is for the process and what it remembers of ledgers. One payload may unpack to a quarter of \
     it, and take half of it as columns: more is a dead letter, so set the key where large payloads come to small \
     containers. The start logs what holds, and warns where it is more than a quarter of the memory",
);
pub(super) const MAX_IN_FLIGHT_REQUESTS: Key = Key::defaulted(
    "max_in_flight_requests",
    Shape::Count,
    || ServerConfig::default().max_in_flight_requests.to_string(),
    "requests held at one time; past it 429",
);
pub(super) const MAX_BODY_BYTES: Key = Key::defaulted(
    "max_body_bytes",
    Shape::Size,
    || size_text(ServerConfig::default().max_body_bytes),
    "the largest request body; at most `max_in_flight_bytes`",
);
pub(super) const ACK_DEADLINE: Key = Key::defaulted(
    "ack_deadline",
    Shape::Duration,
    || duration_text(ServerConfig::default().ack_deadline),
    "the subscription's acknowledgement deadline, `10s` to `600s`; bounds every wait",
);

pub(super) const CPU_IDLE: Key = Key::defaulted(
    "cpu_idle",
    Shape::Boolean,
    || ServerConfig::default().cpu_idle.to_string(),
    "`true` where the platform gives CPU only while requests are open: the last one of a commit is then answered once \
     BigQuery shows the commit, or after 5 s",
);

pub(super) const SERVER: Keys = Keys {
    title: "server",
    accepted: "a mapping such as `{listen: 0.0.0.0:8080, push_auth: off}`",
    keys: &[&[
        LISTEN,
        PUSH_AUTH,
        API_AUTH,
        STATUS_PAGE,
        MAX_IN_FLIGHT_BYTES,
        MAX_IN_FLIGHT_REQUESTS,
        MAX_BODY_BYTES,
        ACK_DEADLINE,
        CPU_IDLE,
    ]],
    later: &[&["drain"]],
    ..Keys::NONE
};

const API_AUTH_KEYS: Keys = Keys {
    title: "api_auth",
    accepted: "a mapping such as `{bearer: \"${API_TOKEN}\"}`",
    keys: &[&[BEARER]],
    ..Keys::NONE
};

const ADDRESS: Text = Text {
    accepted: "an IP address and a port, such as `0.0.0.0:8080` or `[::1]:8080`",
    pattern: Some(|| {
        r"^(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+(?:%[0-9]+)?\]):[0-9]{1,5}$".to_owned()
    }),
    any_scalar: false,
};

/// How the server listens and what it holds. Key `server`, every key optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Key `listen`, default `0.0.0.0:8080`: the address. The environment's `$PORT` wins over its port.
    pub listen: SocketAddr,
    /// Key `push_auth`, no default: who may push. `serve` starts only when it is set, see
    /// [`ServerConfig::require_push_auth`].
    pub push_auth: Option<PushAuth>,
    /// Key `api_auth`, default none: who may use the records, status and metrics calls. Without it they are open on a
    /// loopback address and refused elsewhere.
    pub api_auth: Option<ApiAuth>,
    /// Key `status_page`, default `protected`: who may see the status page.
    pub status_page: StatusPage,
    /// Key `max_in_flight_bytes`, in bytes: payload held at one time; past it, 429. Without it the memory decides, see
    /// [`ServerConfig::held_bytes`].
    pub max_in_flight_bytes: Option<u64>,
    /// Key `max_in_flight_requests`, default `1000`: requests held at one time; past it, 429.
    pub max_in_flight_requests: usize,
    /// Key `max_body_bytes`, default `32MiB`, in bytes: the largest request body; at most `max_in_flight_bytes`.
    pub max_body_bytes: u64,
    /// Key `ack_deadline`, default `60s`, `10s` to `600s`: the subscription's; bounds every wait.
    pub ack_deadline: Duration,
    /// Key `cpu_idle`, default `false`: whether there is CPU only while requests are open, so that the last one of a commit
    /// waits for its publish, 5 s at the most.
    pub cpu_idle: bool,
}

/// Who may use the calls that are not pushes. Key `api_auth`.
#[derive(Debug, Clone)]
pub struct ApiAuth {
    /// Key `bearer`, required: the token that callers send; visible ASCII characters, never printed.
    pub bearer: SecretString,
}

/// Compares tokens in time that depends on them: for configurations, not for callers.
impl PartialEq for ApiAuth {
    fn eq(&self, other: &Self) -> bool {
        self.bearer.expose_secret() == other.bearer.expose_secret()
    }
}

impl Eq for ApiAuth {}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
            push_auth: None,
            api_auth: None,
            status_page: StatusPage::default(),
            max_in_flight_bytes: None,
            max_in_flight_requests: 1000,
            max_body_bytes: 32 << 20,
            ack_deadline: Duration::from_secs(60),
            cpu_idle: false,
        }
    }
}

impl ServerConfig {
    /// Checks that the configuration says who may push, as `serve` must know.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with what to write, when the key is missing.
    pub fn require_push_auth(&self) -> Result<&PushAuth> {
        self.push_auth.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "The key `server.push_auth` is missing, and `serve` does not guess who may push: write under `server:` the \
                 `push_auth: {audience: …, service_accounts: […]}` of the push's signature, or write `push_auth: off` under \
                 `server:`, and let only the push's service account invoke the service (on Cloud Run: require \
                 authentication and grant it roles/run.invoker).",
            )
        })
    }

    /// The bytes of payload that may be held in a process whose memory is limited so: the key's, else a share of the limit.
    pub fn held_bytes(&self, memory: Option<u64>) -> u64 {
        let share = memory.map_or(HELD_BYTES, |memory| memory / MEMORY_PER_HELD_BYTE);
        // A body that could never be held would be sent again for ever.
        self.max_in_flight_bytes
            .unwrap_or_else(|| share.max(self.max_body_bytes))
    }

    /// Whether what may be held takes more than that memory, once it is held.
    pub fn outgrows(&self, memory: Option<u64>) -> bool {
        memory.is_some_and(|memory| self.held_bytes(Some(memory)) > memory / MEMORY_PER_HELD_BYTE)
    }

    /// Reads the key `server`.
    pub(super) fn read(field: &Field<'_>) -> Self {
        let mut server = Self::default();
        let Some(mut keys) = field.mapping() else {
            return server;
        };
        if let Some(listen) = keys.key(&LISTEN).and_then(|field| read_listen(&field)) {
            server.listen = listen;
        }
        server.push_auth = keys.key(&PUSH_AUTH).and_then(|field| push_auth::read(&field));
        server.api_auth = keys.key(&API_AUTH).and_then(|field| read_api_auth(&field));
        if let Some(page) = keys.key(&STATUS_PAGE).and_then(|field| status_page::read(&field)) {
            server.status_page = page;
        }
        let in_flight = keys.key(&MAX_IN_FLIGHT_BYTES);
        if let Some(bytes) = in_flight.as_ref().and_then(Field::size) {
            server.max_in_flight_bytes = Some(bytes);
        }
        let requests = keys.key(&MAX_IN_FLIGHT_REQUESTS).and_then(|field| field.count());
        if let Some(requests) = requests {
            // More requests than the machine can number are no limit.
            server.max_in_flight_requests = usize::try_from(requests).unwrap_or(usize::MAX);
        }
        let body = keys.key(&MAX_BODY_BYTES);
        if let Some(bytes) = body.as_ref().and_then(Field::size) {
            server.max_body_bytes = bytes;
        }
        // Without the key as on a machine without a limit, so that a file that is right here is right there.
        if server.max_body_bytes > server.max_in_flight_bytes.unwrap_or(HELD_BYTES)
            && let Some(field) = body.or(in_flight)
        {
            field.problem(
                "`max_body_bytes` is larger than `max_in_flight_bytes`, so such a body could never be held; write \
                 `max_body_bytes` no larger than `max_in_flight_bytes` (defaults: 32MiB and 256MiB)",
            );
        }
        if let Some(field) = keys.key(&ACK_DEADLINE)
            && let Some(deadline) = field.duration()
        {
            if ACK_DEADLINES.contains(&deadline) {
                server.ack_deadline = deadline;
            } else {
                field.problem(
                    "the acknowledgement deadline of a subscription is `10s` to `600s`; write that of yours",
                );
            }
        }
        if let Some(cpu_idle) = keys.key(&CPU_IDLE).and_then(|field| field.boolean()) {
            server.cpu_idle = cpu_idle;
        }
        keys.finish();
        server
    }

    /// Lets the environment have its say.
    pub(super) fn apply_environment(&mut self, cx: &Context<'_>, root: &Field<'_>) {
        self.apply_port(cx, root);
        push_auth::apply_emulator(&mut self.push_auth, cx, root);
    }

    /// Lets `$PORT`, which Cloud Run sets, win over the port. An empty one counts as not set.
    fn apply_port(&mut self, cx: &Context<'_>, root: &Field<'_>) {
        let Some(text) = cx.variable("PORT").filter(|text| !text.is_empty()) else {
            return;
        };
        match text.parse::<u16>() {
            Ok(port) if port > 0 => self.listen.set_port(port),
            _ => root.problem(
                "the environment variable `PORT`, which wins over the port of `server.listen`, is not a port; set it to \
                 1 to 65535, or unset it",
            ),
        }
    }
}

fn read_listen(field: &Field<'_>) -> Option<SocketAddr> {
    field.parse(|text| {
        text.parse().map_err(|_not_an_address| {
            if text.starts_with("localhost") {
                format!("`{text}` is a host name (did you mean `127.0.0.1`?)")
            } else {
                format!("`{text}` is not an address")
            }
        })
    })
}

fn read_api_auth(field: &Field<'_>) -> Option<ApiAuth> {
    let mut keys = field.mapping()?;
    let bearer = keys.key(&BEARER).and_then(|field| {
        // The reason shows nothing of the value, as it may be written in the file.
        field.parse(|text| {
            let visible = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
            visible
                .then(|| SecretString::from(text))
                .ok_or_else(|| "the token is empty or holds other characters".to_owned())
        })
    });
    keys.finish();
    bearer.map(|bearer| ApiAuth { bearer })
}
