//! The benchmark's files: the copy inside the program, or a folder laid out like it.
//!
//! A folder holds `<lang>/<category>.jsonl.gz` (questions), `<lang>/answers/<category>.jsonl.gz`,
//! `prompts_<lang>.json` and `errata_r2510.jsonl`; `environment_<lang>.json` where it is to differ from the
//! copy inside the program. Nothing is decoded before it is asked for.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use indexmap::IndexMap;
use sha2::{Digest as _, Sha256};
use starling_text::json;

use super::agent::Start;
use super::category::embedded_files;
use super::item::Item;
use super::prompt::Prompts;
use super::{Category, Lang, Profile};

/// Why the benchmark's data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file of the folder cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not decompress to UTF-8 text.
    #[error("`{file}` is not gzip-compressed UTF-8 text")]
    Decompress {
        /// Its place in the data folder.
        file: String,
        /// What the decoder says.
        source: std::io::Error,
    },
    /// A line is not JSON.
    #[error("`{file}` line {line} is not JSON")]
    Json {
        /// Its place in the data folder.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        source: json::ParseError,
    },
    /// A row lacks what its category needs.
    #[error("`{file}` line {line}: {what}")]
    Row {
        /// Its place in the data folder.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A part of a row does not have the form that the checker needs.
    #[error("{0}")]
    Shape(&'static str),
    /// The embedded copy has no such file.
    #[error("no file `{0}` in the data")]
    Missing(String),
}

const EN: &[(&str, &[u8])] = embedded_files!("en");
const ZH: &[(&str, &[u8])] = embedded_files!("zh");
const COMMON: &[(&str, &[u8])] = &[
    (
        "environment_en.json",
        include_bytes!("../../data/acebench/environment_en.json"),
    ),
    (
        "environment_zh.json",
        include_bytes!("../../data/acebench/environment_zh.json"),
    ),
    (
        "prompts_en.json",
        include_bytes!("../../data/acebench/prompts_en.json"),
    ),
    (
        "prompts_zh.json",
        include_bytes!("../../data/acebench/prompts_zh.json"),
    ),
    (
        "errata_r2510.jsonl",
        include_bytes!("../../data/acebench/errata_r2510.jsonl"),
    ),
];

/// Where the data comes from.
#[derive(Debug, Clone, Copy)]
enum Source<'p> {
    Embedded,
    Folder(&'p Path),
}

impl Source<'_> {
    fn bytes(self, file: &str) -> Result<Cow<'static, [u8]>, DataError> {
        match self {
            Self::Embedded => {
                let files = EN.iter().chain(ZH).chain(COMMON);
                let found = files.into_iter().find(|(name, _)| *name == file);
                let (_, bytes) = found.ok_or_else(|| DataError::Missing(file.to_owned()))?;
                Ok(Cow::Borrowed(bytes))
            }
            Self::Folder(folder) => {
                let path = folder.join(file);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Cow::Owned(bytes)),
                    // The environment is no part of the official data folder.
                    Err(error)
                        if error.kind() == ErrorKind::NotFound
                            && file.starts_with("environment_") =>
                    {
                        Self::Embedded.bytes(file)
                    }
                    Err(source) => Err(DataError::Read { path, source }),
                }
            }
        }
    }
}

/// The entries of one language under one profile, and the prompts that go with them.
#[derive(Debug, Clone)]
pub struct Dataset {
    lang: Lang,
    profile: Profile,
    digest: String,
    prompts: Prompts,
    start: Start,
    items: IndexMap<String, Item>,
}

impl Dataset {
    /// Decodes the copy of the data inside the program.
    ///
    /// # Errors
    /// None for the data that the program is built with.
    pub fn embedded(lang: Lang, profile: Profile) -> Result<Self, DataError> {
        Self::load(Source::Embedded, lang, profile)
    }

    /// Reads another version of the data from a folder.
    ///
    /// # Errors
    /// [`DataError`] names the file, and the line where there is one.
    pub fn from_folder(folder: &Path, lang: Lang, profile: Profile) -> Result<Self, DataError> {
        Self::load(Source::Folder(folder), lang, profile)
    }

    fn load(source: Source<'_>, lang: Lang, profile: Profile) -> Result<Self, DataError> {
        let mut reader = Reader {
            source,
            hasher: Sha256::new(),
        };
        let prompts_file = format!("prompts_{lang}.json");
        let prompts = Prompts::read(&reader.json(&prompts_file)?);
        let prompts = prompts.map_err(|error| in_row(&prompts_file, 1, &error))?;
        let start_file = format!("environment_{lang}.json");
        let start = Start::read(&reader.json(&start_file)?);
        let start = start.map_err(|error| in_row(&start_file, 1, &error))?;
        let errata = reader.rows("errata_r2510.jsonl")?;
        let mut items = IndexMap::new();
        for category in Category::ALL {
            let file = format!("{lang}/{category}.jsonl.gz");
            let mut questions = reader.rows(&file)?;
            let mut answers = reader.rows(&format!("{lang}/answers/{category}.jsonl.gz"))?;
            if profile == Profile::R2510 {
                correct(&mut questions, &errata, lang, category, "question");
                correct(&mut answers, &errata, lang, category, "answer");
            }
            if questions.len() != answers.len() {
                return Err(in_row(
                    &file,
                    questions.len(),
                    &DataError::Shape("as many answers as questions are needed"),
                ));
            }
            for (line, (question, answer)) in questions.iter().zip(&answers).enumerate() {
                let item = Item::read(lang, category, question, answer);
                let item = item.map_err(|error| in_row(&file, line + 1, &error))?;
                items.insert(item.id.clone(), item);
            }
        }
        Ok(Self {
            lang,
            profile,
            digest: reader.digest(),
            prompts,
            start,
            items,
        })
    }

    /// The language of the entries.
    pub fn lang(&self) -> Lang {
        self.lang
    }

    /// The profile that the data was loaded for and that outputs are checked under.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// SHA-256 over names, lengths and bytes of the files that were read, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The prompt texts.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// What the agent's environment starts with.
    pub(super) fn start(&self) -> &Start {
        &self.start
    }

    /// The entries, category by category, each in the order of its file.
    pub fn items(&self) -> impl ExactSizeIterator<Item = &Item> {
        self.items.values()
    }

    /// The entries of one category, in the order of its file.
    pub fn category(&self, category: Category) -> impl Iterator<Item = &Item> {
        self.items().filter(move |item| item.category == category)
    }

    /// The entry with an id.
    pub fn get(&self, id: &str) -> Option<&Item> {
        self.items.get(id)
    }
}

fn in_row(file: &str, line: usize, error: &DataError) -> DataError {
    DataError::Row {
        file: file.to_owned(),
        line,
        what: error.to_string(),
    }
}

/// Replaces the rows that have a later version.
fn correct(
    rows: &mut [json::Value],
    errata: &[json::Value],
    lang: Lang,
    category: Category,
    kind: &str,
) {
    let text = |row: &json::Value, key: &str| {
        row.get(key)
            .and_then(json::Value::as_str)
            .map(str::to_owned)
    };
    for erratum in errata {
        let fits = text(erratum, "lang").as_deref() == Some(lang.name())
            && text(erratum, "category").as_deref() == Some(category.name())
            && text(erratum, "kind").as_deref() == Some(kind);
        let Some(new) = erratum.get("row").filter(|_| fits) else {
            continue;
        };
        for row in rows.iter_mut().filter(|row| row.get("id") == new.get("id")) {
            *row = new.clone();
        }
    }
}

/// Reads files and remembers what it read.
struct Reader<'p> {
    source: Source<'p>,
    hasher: Sha256,
}

impl Reader<'_> {
    fn text(&mut self, file: &str) -> Result<String, DataError> {
        let bytes = self.source.bytes(file)?;
        self.hasher.update((file.len() as u64).to_le_bytes());
        self.hasher.update(file);
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(&bytes);
        let mut text = String::new();
        let read = if file.ends_with(".gz") {
            MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text)
        } else {
            (&bytes[..]).read_to_string(&mut text)
        };
        match read {
            Ok(_) => Ok(text),
            Err(source) => Err(DataError::Decompress {
                file: file.to_owned(),
                source,
            }),
        }
    }

    fn json(&mut self, file: &str) -> Result<json::Value, DataError> {
        json::parse(&self.text(file)?).map_err(|source| DataError::Json {
            file: file.to_owned(),
            line: 1,
            source,
        })
    }

    fn rows(&mut self, file: &str) -> Result<Vec<json::Value>, DataError> {
        let text = self.text(file)?;
        let lines = text
            .split('\n')
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let rows = lines.map(|(number, line)| {
            json::parse(line.trim()).map_err(|source| DataError::Json {
                file: file.to_owned(),
                line: number + 1,
                source,
            })
        });
        rows.collect()
    }

    fn digest(self) -> String {
        self.hasher
            .finalize()
            .iter()
            .fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }
}
