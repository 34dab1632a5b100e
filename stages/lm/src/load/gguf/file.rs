//! The container: counts, lengths and offsets are checked against the file before anything is made of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use half::{bf16, f16};

use crate::error::LmError;

const MAGIC: [u8; 4] = *b"GGUF";
/// Offsets are multiples of this unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;
/// The most dimensions that a tensor has.
const DIMENSIONS: u32 = 4;

/// A value of the key-value part. Lists of lists are not kept: no model needs them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Any integer, or a truth.
    Integer(i64),
    /// Either float.
    Real(f64),
    Text(String),
    Integers(Vec<i64>),
    Reals(Vec<f64>),
    Texts(Vec<String>),
}

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub(super) struct Info {
    /// Outermost first, as elsewhere.
    shape: Vec<usize>,
    dtype: GgmlDType,
    /// From the file's start.
    start: u64,
    bytes: u64,
}

/// An open file whose header was read and checked.
#[derive(Debug)]
pub(super) struct GgufFile {
    path: PathBuf,
    reader: BufReader<File>,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Info>,
}

impl GgufFile {
    pub(super) fn open(path: &Path) -> Result<Self, LmError> {
        let file = File::open(path).map_err(LmError::io(path))?;
        let size = file.metadata().map_err(LmError::io(path))?.len();
        let mut header = Header {
            reader: BufReader::new(file),
            position: 0,
            size,
        };
        let (metadata, tensors) = header.read().map_err(|reason| {
            LmError::Config(format!(
                "{}: not a whole GGUF file: {reason}",
                path.display()
            ))
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader: header.reader,
            metadata,
            tensors,
        })
    }

    /// The same file again, to read from while this one is borrowed.
    pub(super) fn reopened(&self) -> Result<Self, LmError> {
        Self::open(&self.path)
    }

    pub(super) fn wrong(&self, reason: impl std::fmt::Display) -> LmError {
        LmError::Config(format!("{}: {reason}", self.path.display()))
    }

    pub(super) fn damaged(&self, tensor: &str, reason: String) -> LmError {
        LmError::Tensor {
            file: Some(self.path.clone()),
            name: tensor.to_owned(),
            reason,
        }
    }

    /// The values of a tensor of this shape, dequantised.
    pub(super) fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        let info = self.tensors.get(name).cloned();
        let info = info.ok_or_else(|| self.damaged(name, "is missing".to_owned()))?;
        if info.shape != shape {
            let found = &info.shape;
            return Err(self.damaged(name, format!("has shape {found:?}, expected {shape:?}")));
        }
        // `open` checked that these bytes are in the file
        let mut bytes = vec![0; info.bytes as usize];
        self.reader
            .seek(SeekFrom::Start(info.start))
            .and_then(|_| self.reader.read_exact(&mut bytes))
            .map_err(|error| self.damaged(name, error.to_string()))?;
        decode(&info, &bytes).map_err(|error| self.damaged(name, error.to_string()))
    }
}

fn decode(info: &Info, bytes: &[u8]) -> Result<Vec<f32>, candle_core::Error> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    Ok(match info.dtype {
        GgmlDType::F32 => {
            let words = bytes.as_chunks::<4>().0.iter();
            words.map(|&b| f32::from_le_bytes(b)).collect()
        }
        GgmlDType::F16 => pairs().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        GgmlDType::BF16 => pairs().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        dtype => {
            let storage = QStorage::from_data(bytes.into(), &Device::Cpu, dtype)?;
            let tensor = QTensor::new(storage, info.shape.as_slice())?;
            tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?
        }
    })
}

/// The beginning of a file, read from front to back.
struct Header {
    reader: BufReader<File>,
    position: u64,
    size: u64,
}

type Parts = (BTreeMap<String, Value>, BTreeMap<String, Info>);

impl Header {
    fn read(&mut self) -> Result<Parts, String> {
        if self.bytes::<4>()? != MAGIC {
            return Err("it does not begin with `GGUF`".to_owned());
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("version {version} is neither 2 nor 3"));
        }
        let (tensors, keys) = (self.u64()?, self.u64()?);
        // a tensor takes 24 bytes at least, a key with its value 13
        self.room(tensors, 24, "tensors")?;
        self.room(keys, 13, "keys")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = self.text("a key")?;
            let kind = self.u32()?;
            let value = self
                .value(kind)
                .map_err(|reason| format!("`{key}`: {reason}"))?;
            let Some(value) = value else { continue };
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("`{key}` is there twice"));
            }
        }
        let mut infos = Vec::new();
        for _ in 0..tensors {
            let name = self.text("a tensor's name")?;
            let info = self
                .info()
                .map_err(|reason| format!("tensor `{name}`: {reason}"))?;
            infos.push((name, info));
        }
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::Integer(number @ 1..=65_536)) if number.count_ones() == 1 => *number as u64,
            Some(other) => return Err(format!("`general.alignment` is {other:?}")),
        };
        let begin = self.position.next_multiple_of(alignment);
        let tensors = self.place(infos, begin)?;
        Ok((metadata, tensors))
    }

    /// Puts tensors behind the header; they must lie in the file and not on each other.
    fn place(
        &self,
        infos: Vec<(String, Info)>,
        begin: u64,
    ) -> Result<BTreeMap<String, Info>, String> {
        let mut tensors = BTreeMap::new();
        let mut places = Vec::new();
        for (name, mut info) in infos {
            let start = begin.checked_add(info.start);
            let end = start.and_then(|start| start.checked_add(info.bytes));
            let (Some(start), Some(end)) = (start, end.filter(|end| *end <= self.size)) else {
                return Err(format!(
                    "tensor `{name}` takes {} bytes from {} on, past the file's {} bytes",
                    info.bytes, info.start, self.size
                ));
            };
            info.start = start;
            places.push((start, end, name.clone()));
            if tensors.insert(name.clone(), info).is_some() {
                return Err(format!("tensor `{name}` is there twice"));
            }
        }
        places.sort();
        for pair in places.windows(2) {
            let [(_, end, first), (start, _, second)] = pair else {
                continue;
            };
            if start < end {
                return Err(format!("tensors `{first}` and `{second}` overlap"));
            }
        }
        Ok(tensors)
    }

    fn info(&mut self) -> Result<Info, String> {
        let count = self.u32()?;
        if count > DIMENSIONS {
            return Err(format!("has {count} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..count {
            shape.push(usize::try_from(self.u64()?).map_err(|error| error.to_string())?);
        }
        // innermost first in the file
        let inner = shape.first().copied().unwrap_or(1);
        shape.reverse();
        let dtype = dtype(self.u32()?)?;
        let elements = shape
            .iter()
            .try_fold(1_usize, |all, &size| all.checked_mul(size));
        let block = dtype.block_size();
        if !inner.is_multiple_of(block) {
            return Err(format!("has rows of {inner}, which {dtype:?} cannot store"));
        }
        let bytes = elements.and_then(|all| (all / block).checked_mul(dtype.type_size()));
        let bytes = bytes.filter(|bytes| *bytes as u64 <= self.size);
        let bytes = bytes.ok_or_else(|| format!("shape {shape:?} is more than the file holds"))?;
        Ok(Info {
            dtype,
            start: self.u64()?,
            bytes: bytes as u64,
            shape,
        })
    }

    /// A value of a kind; none for a list of lists.
    fn value(&mut self, kind: u32) -> Result<Option<Value>, String> {
        Ok(Some(match kind {
            6 | 12 => Value::Real(self.real(kind)?),
            8 => Value::Text(self.text("a value")?),
            9 => {
                let kind = self.u32()?;
                let count = self.u64()?;
                match kind {
                    6 | 12 => {
                        self.room(count, if kind == 6 { 4 } else { 8 }, "numbers")?;
                        Value::Reals(
                            (0..count)
                                .map(|_| self.real(kind))
                                .collect::<Result<_, _>>()?,
                        )
                    }
                    8 => {
                        self.room(count, 8, "texts")?;
                        let texts = (0..count).map(|_| self.text("a text of a list"));
                        Value::Texts(texts.collect::<Result<_, _>>()?)
                    }
                    9 => return Err("a list of lists".to_owned()),
                    _ => {
                        self.room(count, 1, "numbers")?;
                        let numbers = (0..count).map(|_| self.integer(kind));
                        Value::Integers(numbers.collect::<Result<_, _>>()?)
                    }
                }
            }
            _ => Value::Integer(self.integer(kind)?),
        }))
    }

    fn integer(&mut self, kind: u32) -> Result<i64, String> {
        Ok(match kind {
            0 => i64::from(self.bytes::<1>()?[0]),
            1 => i64::from(i8::from_le_bytes(self.bytes()?)),
            2 => i64::from(u16::from_le_bytes(self.bytes()?)),
            3 => i64::from(i16::from_le_bytes(self.bytes()?)),
            4 => i64::from(self.u32()?),
            5 => i64::from(i32::from_le_bytes(self.bytes()?)),
            7 => match self.bytes::<1>()?[0] {
                truth @ 0..=1 => i64::from(truth),
                other => return Err(format!("a truth of {other}")),
            },
            10 => i64::try_from(self.u64()?).map_err(|error| error.to_string())?,
            11 => i64::from_le_bytes(self.bytes()?),
            other => return Err(format!("kind {other} of value is not known")),
        })
    }

    fn real(&mut self, kind: u32) -> Result<f64, String> {
        if kind == 6 {
            Ok(f64::from(f32::from_le_bytes(self.bytes()?)))
        } else {
            Ok(f64::from_le_bytes(self.bytes()?))
        }
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let length = self.u64()?;
        self.room(length, 1, what)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|error| format!("{what} is not UTF-8: {error}"))
    }

    /// Whether so many things of at least a size can still come.
    fn room(&self, count: u64, size: u64, what: &str) -> Result<(), String> {
        let left = self.size - self.position;
        match count.checked_mul(size) {
            Some(bytes) if bytes <= left => Ok(()),
            _ => Err(format!(
                "{count} {what} at byte {}, with {left} bytes left",
                self.position
            )),
        }
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.room(bytes.len() as u64, 1, "bytes")?;
        let read = self.reader.read_exact(bytes);
        read.map_err(|error| format!("byte {}: {error}", self.position))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// The type of a tensor by its number.
fn dtype(number: u32) -> Result<GgmlDType, String> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        other => return Err(format!("type {other} is not read here")),
    })
}
