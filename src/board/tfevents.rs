//! Event files: records of TFRecord's framing, each an `Event` message with a scalar summary.
//!
//! A record is its length (u64), the masked CRC-32C of these eight bytes, the bytes, and their masked CRC-32C, all
//! little-endian. Sources: TensorFlow's `tsl/lib/io/record_writer.h` for the framing and the mask,
//! `tensorboard/compat/proto/{event,summary}.proto` for the fields, RFC 3720 appendix B.4 for the sum.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// What an event file says first.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.START`: what was written from this step on is void.
const START: u64 = 1;

/// An event file that is being written; whole records are visible to readers at once.
pub(super) struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins a file.
    pub(super) fn create(path: &Path, wall_time: f64) -> io::Result<Self> {
        let mut file = Self {
            file: File::create(path)?,
        };
        file.record(&first(wall_time))?;
        Ok(file)
    }

    /// Figures at a step.
    pub(super) fn scalars(
        &mut self,
        wall_time: f64,
        step: u64,
        values: &[(String, f64)],
    ) -> io::Result<()> {
        self.record(&scalars(wall_time, step, values))
    }

    /// Takes back everything from a step on.
    pub(super) fn restart(&mut self, wall_time: f64, step: u64) -> io::Result<()> {
        self.record(&restart(wall_time, step))
    }

    fn record(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&framed(event))
    }
}

fn first(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    bytes(&mut event, 3, VERSION.as_bytes());
    event
}

fn scalars(wall_time: f64, step: u64, values: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, value) in values {
        let mut one = Vec::new();
        bytes(&mut one, 1, name.as_bytes());
        // What is beyond a float is drawn as infinite, as it would be by any other writer.
        key(&mut one, 2, 5);
        one.extend((*value as f32).to_le_bytes());
        bytes(&mut summary, 1, &one);
    }
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    event
}

fn restart(wall_time: f64, step: u64) -> Vec<u8> {
    let mut log = Vec::new();
    key(&mut log, 1, 0);
    varint(&mut log, START);
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes(&mut event, 7, &log);
    event
}

fn key(into: &mut Vec<u8>, field: u64, wire: u64) {
    varint(into, field << 3 | wire);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn double(into: &mut Vec<u8>, field: u64, value: f64) {
    key(into, field, 1);
    into.extend(value.to_le_bytes());
}

fn bytes(into: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(into, field, 2);
    varint(into, value.len() as u64);
    into.extend(value);
}

fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(event.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(event);
    record.extend(masked(crc32c(event)).to_le_bytes());
    record
}

/// So that the sum of bytes that hold sums is not trivial.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a record is some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = !0_u32;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = sum & 1;
            sum >>= 1;
            if odd == 1 {
                sum ^= 0x82f6_3b78;
            }
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the polynomial, and those of RFC 3720.
    #[test]
    fn sums_are_the_published_ones() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The literals were written by `scripts/peers/tensorboard_read.py --bytes` with TensorBoard's own writer.
    #[test]
    fn records_are_those_of_tensorboard() {
        let values = [("loss".to_owned(), 0.5), ("reward/mean".to_owned(), -3.25)];
        assert_eq!(hexadecimal(&framed(&first(1.5))), FIRST);
        assert_eq!(hexadecimal(&framed(&scalars(2.25, 300, &values))), SCALARS);
        assert_eq!(hexadecimal(&framed(&restart(2.5, 128))), RESTART);
    }
    const FIRST: &str =
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
    const SCALARS: &str = "2f000000000000006d5d1d5009000000000000024010ac022a210a0b0a046c6f7373150000003f0a\
        120a0b7265776172642f6d65616e15000050c08b0ba7f2";
    const RESTART: &str = "100000000000000095fbfe180900000000000004401080013a020801a40f956b";
}
