//! What the environment says about downloads: where the hub is, who asks, where copies are kept.
//!
//! The token is held in a type that prints nothing; it is sent to the hub's own address and nowhere else.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A secret that does not print.
#[derive(Clone)]
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The value of the header that shows it.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// How to download.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub(super) endpoint: String,
    /// `HF_TOKEN`, or what `HF_TOKEN_PATH` or `HF_HOME/token` holds.
    pub(super) token: Option<Token>,
    /// The hub's own cache: `HF_HUB_CACHE`, or `HF_HOME/hub`; read, never written.
    pub(super) hub_cache: Option<PathBuf>,
    /// `HF_HUB_OFFLINE`: no request is made.
    pub(super) offline: bool,
    /// Where downloads are kept until a stage has them: `XDG_CACHE_HOME/starling/downloads`.
    pub(super) downloads: PathBuf,
    /// The pause before the second try; doubled before each further one.
    pub(super) pause: Duration,
}

impl Settings {
    /// Reads the settings; `variable` gives a variable of the environment.
    pub(super) fn from(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| {
            let value = variable(name)?.into_string().ok()?;
            Some(value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let folder = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = folder("HOME");
        let cache = folder("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|h| h.join(".cache")));
        let hf_home = folder("HF_HOME").or_else(|| cache.as_ref().map(|c| c.join("huggingface")));
        let token_file = folder("HF_TOKEN_PATH").or_else(|| Some(hf_home.as_ref()?.join("token")));
        let stored = || {
            let text = std::fs::read_to_string(token_file?).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let yes =
            |value: String| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on");
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: text("HF_TOKEN").or_else(stored).map(Token),
            hub_cache: folder("HF_HUB_CACHE").or_else(|| Some(hf_home?.join("hub"))),
            offline: text("HF_HUB_OFFLINE").is_some_and(yes),
            downloads: cache
                .unwrap_or_else(std::env::temp_dir)
                .join("starling")
                .join("downloads"),
            pause: Duration::from_millis(500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_never_prints() {
        let settings = Settings::from(&|name| (name == "HF_TOKEN").then(|| "hf_secret".into()));
        assert!(settings.token.is_some());
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn the_environment_is_honoured() {
        let settings = Settings::from(&|name| {
            let value = match name {
                "HF_ENDPOINT" => "http://127.0.0.1:9/",
                "HF_HOME" => "/hf",
                "HF_HUB_OFFLINE" => "1",
                "XDG_CACHE_HOME" => "/cache",
                _ => return None,
            };
            Some(value.into())
        });
        assert_eq!(settings.endpoint, "http://127.0.0.1:9");
        assert_eq!(settings.hub_cache, Some(PathBuf::from("/hf/hub")));
        assert!(settings.offline);
        assert_eq!(
            settings.downloads,
            PathBuf::from("/cache/starling/downloads")
        );
    }
}
