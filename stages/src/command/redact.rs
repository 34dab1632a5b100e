//! Secrets: kept out of streams, found in files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use starling_contract::StageError;

/// What stands in the place of a value.
const INSTEAD: &[u8] = b"[secret]";
/// Shorter values would be found everywhere.
const SHORTEST: usize = 6;

/// Values that nobody may see, by the names of their variables.
pub(super) struct Secrets {
    /// Longest value first, so that a value that begins with another is taken whole.
    values: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    pub(super) fn new(
        values: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, StageError> {
        let mut values: Vec<(String, Vec<u8>)> = values.into_iter().collect();
        if let Some((name, _)) = values.iter().find(|(_, value)| value.len() < SHORTEST) {
            return Err(StageError::failed_try(
                format!("the value of `{name}` has less than {SHORTEST} bytes"),
                "so short a value cannot be told from other text; a value that is no secret belongs in `env`",
            ));
        }
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        Ok(Self { values })
    }

    /// A text without the values.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut filter = Filter::new(self);
        let mut out = Vec::new();
        filter.push(text.as_bytes(), &mut out);
        filter.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The name of a secret whose value is in a file, or in the name of one, at or below `path`.
    pub(super) fn find_below(&self, path: &Path) -> Result<Option<(String, String)>, StageError> {
        if self.values.is_empty() {
            return Ok(None);
        }
        let shown = |path: &Path| self.redact(&path.display().to_string());
        if let Some(name) = path.file_name().and_then(|name| self.find_in_name(name)) {
            return Ok(Some((name, shown(path))));
        }
        if path.is_dir() {
            for entry in std::fs::read_dir(path).map_err(StageError::io("list", path))? {
                let entry = entry.map_err(StageError::io("list", path))?;
                if let Some(found) = self.find_below(&entry.path())? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        Ok(self.find_in_file(path)?.map(|name| (name, shown(path))))
    }

    fn find_in_name(&self, name: &OsStr) -> Option<String> {
        self.find(name.as_bytes())
    }

    fn find(&self, bytes: &[u8]) -> Option<String> {
        let holds = |value: &[u8]| bytes.windows(value.len()).any(|window| window == value);
        let found = self.values.iter().find(|(_, value)| holds(value));
        found.map(|(name, _)| name.clone())
    }

    fn find_in_file(&self, path: &Path) -> Result<Option<String>, StageError> {
        let longest = self.values.first().map_or(0, |(_, value)| value.len());
        let mut file = File::open(path).map_err(StageError::io("open", path))?;
        let (mut window, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            let n = file
                .read(&mut buffer)
                .map_err(StageError::io("read", path))?;
            if n == 0 {
                return Ok(None);
            }
            window.extend_from_slice(&buffer[..n]);
            if let Some(name) = self.find(&window) {
                return Ok(Some(name));
            }
            // What may be the beginning of a value stays for the next round.
            window.drain(..window.len().saturating_sub(longest.saturating_sub(1)));
        }
    }
}

/// Takes the values out of a stream, also where one is cut in two.
pub(super) struct Filter<'a> {
    secrets: &'a Secrets,
    /// What may be the beginning of a value.
    held: Vec<u8>,
}

/// What begins at a place of a stream.
enum Begins {
    /// A value of this length.
    Value(usize),
    /// Perhaps a value; more bytes will tell.
    Perhaps,
    Nothing,
}

impl<'a> Filter<'a> {
    pub(super) fn new(secrets: &'a Secrets) -> Self {
        Self {
            secrets,
            held: Vec::new(),
        }
    }

    /// Takes the next bytes, and gives those that are known to be harmless.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.held.len() {
            match self.begins(at) {
                Begins::Value(length) => {
                    out.extend_from_slice(INSTEAD);
                    at += length;
                }
                Begins::Perhaps => break,
                Begins::Nothing => {
                    out.push(self.held[at]);
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
    }

    /// Gives what was held back; the stream is over.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        // A value may lie within what looked like the beginning of a longer one.
        while !self.held.is_empty() {
            let rest = &self.held;
            let values = self.secrets.values.iter();
            let whole = values.map(|(_, v)| v).find(|v| rest.starts_with(v));
            let taken = match whole {
                Some(value) => {
                    out.extend_from_slice(INSTEAD);
                    value.len()
                }
                None => {
                    out.push(rest[0]);
                    1
                }
            };
            self.held.drain(..taken);
        }
    }

    fn begins(&self, at: usize) -> Begins {
        let rest = &self.held[at..];
        for (_, value) in &self.secrets.values {
            if rest.starts_with(value) {
                return Begins::Value(value.len());
            }
            if value.starts_with(rest) {
                return Begins::Perhaps;
            }
        }
        Begins::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        let named = values.iter().enumerate();
        Secrets::new(named.map(|(n, v)| (format!("S{n}"), v.as_bytes().to_vec()))).unwrap()
    }

    #[test]
    fn values_go_whatever_the_cuts() {
        let secrets = secrets(&["hunter2", "hunter2-long", "aaaaab"]);
        let text = "a hunter2 b hunter2-long c hunter2-lon d aaaaaaab hunter";
        let clean = "a [secret] b [secret] c [secret]-lon d aa[secret] hunter";
        assert_eq!(secrets.redact(text), clean);
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let (mut filter, mut out) = (Filter::new(&secrets), Vec::new());
                for part in [&text[..first], &text[first..second], &text[second..]] {
                    filter.push(part.as_bytes(), &mut out);
                }
                filter.finish(&mut out);
                assert_eq!(String::from_utf8(out).unwrap(), clean, "{first} {second}");
            }
        }
    }

    #[test]
    fn values_are_found_in_files_across_reads_and_in_names() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets(&["hunter2"]);
        let find = || {
            secrets
                .find_below(dir.path())
                .unwrap()
                .map(|(name, _)| name)
        };
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        std::fs::write(dir.path().join("deep/good"), "nothing here").unwrap();
        assert_eq!(find(), None);
        for before in [0, (1 << 20) - 3, 1 << 20] {
            let mut bytes = vec![b'x'; before];
            bytes.extend(b"hunter2 and more");
            std::fs::write(dir.path().join("deep/bad"), &bytes).unwrap();
            assert_eq!(find().as_deref(), Some("S0"), "{before}");
        }
        std::fs::remove_file(dir.path().join("deep/bad")).unwrap();
        std::fs::write(dir.path().join("deep/my hunter2"), "").unwrap();
        let (_, place) = secrets.find_below(dir.path()).unwrap().unwrap();
        assert!(!place.contains("hunter2"), "{place}");
    }

    #[test]
    fn short_values_are_refused() {
        assert!(Secrets::new([("S".to_owned(), b"12345".to_vec())]).is_err());
    }
}
