//! A client of OpenAI-compatible servers: chat completions with tools and log-probabilities.
//!
//! | file    | holds                                                              |
//! |---------|--------------------------------------------------------------------|
//! | `mod`   | settings, asking once and asking many, when to try again           |
//! | `wire`  | a query as JSON, a reply read from it, in both shapes of logprobs   |
//! | `probe` | known-answer checks: does the server really do what it accepts      |
//!
//! Knows no benchmark and no model. The key comes from a *named* variable of the environment when a connection is
//! made; it is in no parameter, artifact, message or error. Refuses: a variable that is not set, an address that
//! is not http(s), replies that are no chat completions, replies without what was asked for. Replies come back in
//! the order of the queries, whatever came first; nothing here reads a clock except to wait.

pub(crate) mod probe;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod wire;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::StageError;

pub(crate) use self::wire::{Query, Reply};

/// Where a model is served, and how patiently it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Address up to and without `/chat/completions`, for example `http://127.0.0.1:8080/v1`.
    pub(crate) base_url: String,
    /// The model's name, as the server knows it.
    pub(crate) model: String,
    /// Name of the environment variable that holds the key; left out, no key is sent. The key itself is never
    /// stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_variable: Option<String>,
    /// Seconds until a reply must be complete.
    #[serde(default = "defaults::timeout_seconds")]
    pub(crate) timeout_seconds: f64,
    /// How often a query is sent again after a refusal for load (429), a fault of the server (5xx) or a broken
    /// connection.
    #[serde(default = "defaults::retries")]
    pub(crate) retries: u32,
    /// Queries under way at once.
    #[serde(default = "defaults::concurrency")]
    pub(crate) concurrency: usize,
}

mod defaults {
    pub(super) fn timeout_seconds() -> f64 {
        300.0
    }
    pub(super) fn retries() -> u32 {
        6
    }
    pub(super) fn concurrency() -> usize {
        8
    }
}

impl Settings {
    /// What is wrong with the values, in words; `None` when nothing is.
    pub(crate) fn complaint(&self) -> Option<String> {
        let http = ["http://", "https://"]
            .iter()
            .any(|scheme| self.base_url.starts_with(scheme));
        if !http {
            return Some("`base-url` begins with neither http:// nor https://".to_owned());
        }
        if self.model.is_empty() {
            return Some("`model` is empty".to_owned());
        }
        if !(self.timeout_seconds > 0.0 && self.timeout_seconds <= 86_400.0) {
            return Some("`timeout-seconds` is not in (0, 86400]".to_owned());
        }
        if self.concurrency == 0 {
            return Some("`concurrency` must be at least 1".to_owned());
        }
        None
    }
}

/// Why a query has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// The variable that should hold the key is not set.
    #[error("the environment variable `{0}`, which should hold the key, is not set")]
    NoKey(String),
    /// The server refuses, and would refuse again.
    #[error("{url} answers {status}: {body}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// Every try failed.
    #[error(
        "{url}: no reply after {tries} tries; the last time: {last}; see that the server runs and that this is its \
         address; the same command continues"
    )]
    GaveUp {
        /// The address.
        url: String,
        /// How often the query was sent.
        tries: u32,
        /// What happened last.
        last: String,
    },
    /// The reply is not a chat completion, or lacks what was asked for.
    #[error("{url}: {what}")]
    Reply {
        /// The address.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl EndpointError {
    /// Whether a server refuses a prompt for its length; there is no status of its own for that.
    pub(crate) fn is_too_long(&self) -> bool {
        let Self::Refused { status, body, .. } = self else {
            return false;
        };
        let body = body.to_ascii_lowercase();
        matches!(status, 400 | 413 | 422)
            && ["context", "too long", "maximum length", "max_tokens"]
                .iter()
                .any(|said| body.contains(said))
    }
}

impl From<EndpointError> for StageError {
    fn from(error: EndpointError) -> Self {
        match &error {
            EndpointError::Interrupted => Self::Interrupted,
            EndpointError::NoKey(name) => {
                Self::failed_try(error.to_string(), format!("set it: export {name}=…"))
            }
            _ => Self::failed(error.to_string()),
        }
    }
}

/// The first wait before another try.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait, also when a server wants a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest reply that is read, in bytes.
const MAX_REPLY: u64 = 64 << 20;
/// How much of a refusal is told, in characters.
const TOLD: usize = 300;

/// What one try came to.
enum Try {
    Done(Box<Reply>),
    /// Worth another try, after this wait where the server named one.
    Again(String, Option<Duration>),
    Failed(EndpointError),
}

/// A server that can be asked.
pub(crate) struct Endpoint {
    agent: ureq::Agent,
    /// Where chats are asked.
    url: String,
    /// Where texts are continued.
    texts: String,
    authorization: Option<String>,
    settings: Settings,
    first_wait: Duration,
}

impl Endpoint {
    /// Makes ready to ask; reads the key, sends nothing.
    ///
    /// # Errors
    /// [`EndpointError::NoKey`], or [`EndpointError::Reply`] for settings that make no sense.
    pub(crate) fn new(settings: Settings) -> Result<Self, EndpointError> {
        let base = settings.base_url.trim_end_matches('/');
        let (url, texts) = (
            format!("{base}/chat/completions"),
            format!("{base}/completions"),
        );
        if let Some(what) = settings.complaint() {
            return Err(EndpointError::Reply { url, what });
        }
        let authorization = match &settings.key_variable {
            None => None,
            Some(name) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a key must be in no parameter: it stays in the environment until it is sent"
                )]
                let key = std::env::var(name);
                let key = key.map_err(|_| EndpointError::NoKey(name.clone()))?;
                Some(format!("Bearer {}", key.trim()))
            }
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs_f64(settings.timeout_seconds)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections_per_host(settings.concurrency);
        // A proxy of the surroundings is for other machines.
        let local = ["://127.0.0.1", "://localhost", "://[::1]"];
        let config = match local.iter().any(|host| url.contains(host)) {
            true => config.proxy(None),
            false => config,
        };
        Ok(Self {
            agent: config.build().new_agent(),
            url,
            texts,
            authorization,
            settings,
            first_wait: FIRST_WAIT,
        })
    }

    /// The same with another first wait, for tests.
    #[cfg(test)]
    pub(crate) fn with_first_wait(mut self, wait: Duration) -> Self {
        self.first_wait = wait;
        self
    }

    /// The address that is asked.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn url_of(&self, query: &Query) -> &str {
        match query.prompt {
            Some(_) => &self.texts,
            None => &self.url,
        }
    }

    /// Asks once, trying again where that makes sense.
    ///
    /// # Errors
    /// [`EndpointError`]; `stop` is looked at before every try and while waiting.
    pub(crate) fn ask(
        &self,
        query: &Query,
        stop: &dyn Fn() -> bool,
    ) -> Result<Reply, EndpointError> {
        let body = query.body(&self.settings.model);
        let mut wait = self.first_wait;
        let mut tries = 0;
        loop {
            if stop() {
                return Err(EndpointError::Interrupted);
            }
            tries += 1;
            let (last, wanted) = match self.once(query, &body) {
                Try::Done(reply) => return Ok(*reply),
                Try::Failed(error) => return Err(error),
                Try::Again(last, wanted) => (last, wanted),
            };
            if tries > self.settings.retries {
                return Err(EndpointError::GaveUp {
                    url: self.url_of(query).to_owned(),
                    tries,
                    last,
                });
            }
            sleep(wanted.unwrap_or(wait).min(LONGEST_WAIT), stop);
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    fn once(&self, query: &Query, body: &str) -> Try {
        let mut request = self
            .agent
            .post(self.url_of(query))
            .header("content-type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) if is_transient(&error) => return Try::Again(error.to_string(), None),
            Err(error) => {
                return Try::Failed(EndpointError::Reply {
                    url: self.url_of(query).to_owned(),
                    what: error.to_string(),
                });
            }
        };
        let status = response.status().as_u16();
        let wait = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
            .filter(|seconds| (0.0..1e6).contains(seconds))
            .map(Duration::from_secs_f64);
        let text = match response
            .body_mut()
            .with_config()
            .limit(MAX_REPLY)
            .read_to_string()
        {
            Ok(text) => text,
            Err(error) => return Try::Again(format!("the reply broke off: {error}"), None),
        };
        match status {
            200..=299 => {}
            408 | 425 | 429 | 500..=599 => {
                return Try::Again(format!("status {status}: {}", beginning(&text)), wait);
            }
            _ => {
                return Try::Failed(EndpointError::Refused {
                    url: self.url_of(query).to_owned(),
                    status,
                    body: beginning(&text),
                });
            }
        }
        match Reply::read(&text, query) {
            Ok(reply) => Try::Done(Box::new(reply)),
            Err(what) => Try::Failed(EndpointError::Reply {
                url: self.url_of(query).to_owned(),
                what,
            }),
        }
    }

    /// Asks many queries, several at once; replies are in the order of the queries. After the first failure no
    /// further query is sent.
    ///
    /// # Errors
    /// The failure of the first query, in order, that has one.
    pub(crate) fn ask_all(
        &self,
        queries: &[Query],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Reply>, EndpointError> {
        // A wish that is known before the first query keeps it from being sent.
        if stop() {
            return Err(EndpointError::Interrupted);
        }
        let next = AtomicUsize::new(0);
        // Set by the first failure, and by the caller's wish to stop.
        let failed = AtomicBool::new(false);
        let replies: Vec<Mutex<Option<Result<Reply, EndpointError>>>> =
            queries.iter().map(|_| Mutex::new(None)).collect();
        let work = || loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(query), false) = (queries.get(at), failed.load(Ordering::Relaxed)) else {
                return;
            };
            let reply = self.ask(query, &|| failed.load(Ordering::Relaxed));
            if reply.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            *replies[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
        };
        std::thread::scope(|scope| {
            let workers = self.settings.concurrency.min(queries.len());
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            while workers.iter().any(|worker| !worker.is_finished()) {
                if stop() {
                    failed.store(true, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut done = Vec::with_capacity(queries.len());
        let mut interrupted = false;
        for reply in replies {
            match reply.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(Ok(reply)) => done.push(reply),
                // Stopped for another's sake: that one's failure says more.
                Some(Err(EndpointError::Interrupted)) | None => interrupted = true,
                Some(Err(error)) => return Err(error),
            }
        }
        if interrupted {
            return Err(EndpointError::Interrupted);
        }
        Ok(done)
    }
}

impl Endpoint {
    /// Asks many queries, several at once, and hands over each reply or failure as it comes, with the number of its
    /// query, on the calling thread. A failure stops nothing: what to do about it is for `take` to say, whose own
    /// failure ends the asking.
    ///
    /// # Errors
    /// Those of `take`, and [`StageError::Interrupted`] when `stop` says so.
    pub(crate) fn ask_each(
        &self,
        queries: &[Query],
        stop: &dyn Fn() -> bool,
        mut take: impl FnMut(usize, Result<Reply, EndpointError>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        // Without room: who has a reply asks on when it was taken, so that a refusal is heard before many more are asked.
        let (sender, replies) = mpsc::sync_channel(0);
        let work = |sender: mpsc::SyncSender<_>| loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(query), false) = (queries.get(at), stopped.load(Ordering::Relaxed)) else {
                return;
            };
            let reply = self.ask(query, &|| stopped.load(Ordering::Relaxed));
            if reply == Err(EndpointError::Interrupted) || sender.send((at, reply)).is_err() {
                return;
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.settings.concurrency.min(queries.len()) {
                let sender = sender.clone();
                scope.spawn(|| work(sender));
            }
            drop(sender);
            // Dropped with this scope, also by a panic in `take`: else workers would wait for ever.
            let replies = replies;
            let mut outcome = Ok(());
            // Ends when the last worker does; replies that were under way are still taken.
            loop {
                match replies.recv_timeout(Duration::from_millis(20)) {
                    Ok((at, reply)) if outcome.is_ok() => {
                        outcome = take(at, reply);
                    }
                    Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if outcome.is_err() || stop() {
                    stopped.store(true, Ordering::Relaxed);
                }
            }
            match outcome {
                Ok(()) if stopped.load(Ordering::Relaxed) => Err(StageError::Interrupted),
                outcome => outcome,
            }
        })
    }
}

/// Faults of the connection, which another try may not have.
fn is_transient(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound
            | ureq::Error::Protocol(_)
    )
}

fn beginning(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(TOLD) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Waits in small steps, so that a wish to stop is heard.
fn sleep(mut left: Duration, stop: &dyn Fn() -> bool) {
    const STEP: Duration = Duration::from_millis(50);
    while !left.is_zero() && !stop() {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
}
