//! Requests that are tried again: redirects, refusals with a reason, pauses as the server wishes.

use std::thread::sleep;
use std::time::Duration;

use starling_contract::StageError;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::settings::{Settings, Token};

/// Tries of one thing before it is given up.
const TRIES: u32 = 6;
/// The longest pause that a server can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
const MOST_REDIRECTS: usize = 10;

/// A client for the hub and for plain files.
pub(super) struct Http {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    pause: Duration,
    offline: bool,
}

/// Why a try did not succeed.
pub(super) enum Fault {
    /// It may succeed the next time, after this pause if the server named one.
    Passing(String, Option<Duration>),
    /// The server says no: the status, and its reason.
    Status(u16, String),
    /// It will never succeed.
    Lasting(StageError),
}

impl Http {
    pub(super) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("starling/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.new_agent(),
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            pause: settings.pause,
            offline: settings.offline,
        }
    }

    /// Whether a token is at hand.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Tries until it succeeds, fails for good, or was tried too often. `work` gets to know whether it came
    /// further than before with [`Tries::progressed`], which makes the tries start anew.
    pub(super) fn patiently<T>(
        &self,
        what: &str,
        mut work: impl FnMut(&mut Tries) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.offline {
            return Err(Fault::Lasting(StageError::failed_try(
                format!("{what} is needed, and HF_HUB_OFFLINE forbids to ask for it"),
                "unset HF_HUB_OFFLINE, or bring the files into the hub's cache",
            )));
        }
        let mut tries = Tries { count: 0, best: 0 };
        loop {
            tries.count += 1;
            match work(&mut tries) {
                Err(Fault::Passing(why, _)) if tries.count >= TRIES => {
                    return Err(Fault::Lasting(StageError::failed_try(
                        format!("{what}: {why}, {TRIES} times in a row"),
                        "try again later; what was downloaded is kept",
                    )));
                }
                Err(Fault::Passing(_, wished)) => {
                    let own = self.pause * 2_u32.pow(tries.count.min(8) - 1);
                    sleep(wished.unwrap_or(own).min(LONGEST_PAUSE));
                }
                done => return done,
            }
        }
    }

    /// One request. Redirects are followed, except for `HEAD` as soon as an answer describes a linked file.
    pub(super) fn ask(
        &self,
        head: bool,
        url: &str,
        from: Option<u64>,
    ) -> Result<Response<Body>, Fault> {
        let mut url = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            allowed(&url)?;
            let mut request = if head {
                self.agent.head(&url)
            } else {
                self.agent.get(&url)
            };
            // Bytes are wanted as they are stored, for their digest and their number.
            request = request.header("Accept-Encoding", "identity");
            if let Some(token) = &self.token
                && authority(&url) == authority(&self.endpoint)
            {
                request = request.header("Authorization", token.header());
            }
            if let Some(from) = from {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request
                .call()
                .map_err(|e| Fault::Passing(plain(&e), None))?;
            let status = response.status().as_u16();
            let linked = head && text(response.headers(), "x-linked-etag").is_some();
            match status {
                301..=303 | 307 | 308 if !linked => {
                    let to = text(response.headers(), "location")
                        .ok_or_else(|| Fault::Status(status, "a redirect to nowhere".to_owned()))?;
                    url = joined(&url, &to)
                        .ok_or_else(|| Fault::Status(status, "a redirect to nowhere".to_owned()))?;
                }
                301..=308 | 200..=299 => return Ok(response),
                429 | 500..=599 | 408 => {
                    let wished = text(response.headers(), "retry-after")
                        .and_then(|seconds| seconds.trim().parse().ok())
                        .map(Duration::from_secs);
                    return Err(Fault::Passing(
                        format!("the server answered {status}"),
                        wished,
                    ));
                }
                _ => {
                    let reason = text(response.headers(), "x-error-message")
                        .or_else(|| text(response.headers(), "x-error-code"))
                        .unwrap_or_default();
                    return Err(Fault::Status(status, reason));
                }
            }
        }
        Err(Fault::Status(310, "too many redirects".to_owned()))
    }
}

/// Counts tries.
pub(super) struct Tries {
    count: u32,
    best: u64,
}

impl Tries {
    /// Says how far the work is; where it is further than ever, earlier tries do not count.
    pub(super) fn progressed(&mut self, to: u64) {
        if to > self.best {
            (self.best, self.count) = (to, 0);
        }
    }
}

impl Fault {
    /// The fault as a stage's failure.
    pub(super) fn into_error(self, what: &str) -> StageError {
        match self {
            Self::Lasting(error) => error,
            Self::Passing(why, _) => StageError::failed(format!("{what}: {why}")),
            Self::Status(status, reason) => {
                let reason = if reason.is_empty() {
                    String::new()
                } else {
                    format!(" ({reason})")
                };
                StageError::failed(format!("{what}: the server answered {status}{reason}"))
            }
        }
    }
}

/// A header as text.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// An error without the address it happened at, which may carry a signature.
fn plain(error: &ureq::Error) -> String {
    let text = error.to_string();
    match text.find("http") {
        Some(at) => text[..at].trim_end_matches([' ', ':']).to_owned(),
        None => text,
    }
}

/// `https`, or anything on this machine.
fn allowed(url: &str) -> Result<(), Fault> {
    let host = authority(url)
        .rsplit_once(':')
        .map_or(authority(url), |(host, _)| host);
    let local = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    if url.starts_with("https://") || (url.starts_with("http://") && local) {
        return Ok(());
    }
    Err(Fault::Lasting(StageError::failed_try(
        format!("{} is not asked over plain http", authority(url)),
        "use https",
    )))
}

/// Host and port of an address.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Where a redirect leads.
fn joined(from: &str, to: &str) -> Option<String> {
    if to.starts_with("https://") || to.starts_with("http://") {
        return Some(to.to_owned());
    }
    let (scheme, _) = from.split_once("://")?;
    if let Some(rest) = to.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    to.starts_with('/')
        .then(|| format!("{scheme}://{}{to}", authority(from)))
}

/// A path with everything but letters, digits, `-._~` and `/` escaped.
pub(super) fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(authority("https://a.b:8/c?d"), "a.b:8");
        let joined = |to| joined("http://h:1/x/y", to);
        assert_eq!(joined("/z?q"), Some("http://h:1/z?q".to_owned()));
        assert_eq!(joined("https://o/z"), Some("https://o/z".to_owned()));
        assert_eq!(joined("//o/z"), Some("http://o/z".to_owned()));
        assert_eq!(joined("z"), None);
        assert_eq!(escaped("a b/ü.json"), "a%20b/%C3%BC.json");
        assert!(allowed("http://example.org/x").is_err());
        assert!(allowed("http://127.0.0.1:80/x").is_ok());
    }
}
