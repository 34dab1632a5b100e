//! A trainer's weights and optimizer on disk, to go on later as if nothing had happened.
//!
//! One safetensors file: `NAME` for what is trained (all weights, or an adapter's), `NAME.first` and `NAME.second` for
//! the moments, `updates` for the count. Equal states give equal bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::trainer::Trainer;
use crate::error::LmError;

/// The file's name inside its folder.
const FILE: &str = "trainer.safetensors";
const UPDATES: &str = "updates";

impl Trainer<f32> {
    /// Writes the state into a folder, which is made when absent; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`LmError::Io`] with the path; [`LmError::Tensor`] when it cannot be encoded.
    pub fn save_state(&self, folder: &Path) -> Result<(), LmError> {
        let mut parts: BTreeMap<String, (Vec<u8>, Vec<usize>, Dtype)> = BTreeMap::new();
        for entry in self.last_gradients().layout().entries() {
            for (suffix, values) in [
                ("", self.trained()),
                (".first", &self.optimizer.first),
                (".second", &self.optimizer.second),
            ] {
                let values = &values[entry.range.clone()];
                let bytes = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                let name = format!("{}{suffix}", entry.name);
                parts.insert(name, (bytes, entry.shape.clone(), Dtype::F32));
            }
        }
        let updates = self.optimizer.updates.to_le_bytes().to_vec();
        parts.insert(UPDATES.to_owned(), (updates, vec![1], Dtype::U64));
        let mut views = Vec::new();
        for (name, (bytes, shape, dtype)) in &parts {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            views.push((
                name.as_str(),
                view.map_err(|error| LmError::tensor(name, error.to_string()))?,
            ));
        }
        let bytes = safetensors::serialize(views, None)
            .map_err(|error| LmError::tensor(FILE, error.to_string()))?;
        fs::create_dir_all(folder).map_err(LmError::io(folder))?;
        let (path, partial) = (folder.join(FILE), folder.join("trainer.partial"));
        let mut file = fs::File::create(&partial).map_err(LmError::io(&partial))?;
        file.write_all(&bytes).map_err(LmError::io(&partial))?;
        file.sync_all().map_err(LmError::io(&partial))?;
        fs::rename(&partial, &path).map_err(LmError::io(&path))
    }

    /// Reads a state that was written for the same configuration.
    ///
    /// # Errors
    /// [`LmError::Io`] with the path; [`LmError::Tensor`] for a tensor that is missing or of another shape, with
    /// this trainer unchanged.
    pub fn load_state(&mut self, folder: &Path) -> Result<(), LmError> {
        let path = folder.join(FILE);
        let bytes = fs::read(&path).map_err(LmError::io(&path))?;
        let wrong = |name: &str, reason: String| LmError::Tensor {
            file: Some(path.clone()),
            name: name.to_owned(),
            reason,
        };
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| wrong("(header)", error.to_string()))?;
        let read = |name: &str, shape: &[usize], dtype: Dtype| {
            let view = file
                .tensor(name)
                .map_err(|error| wrong(name, error.to_string()))?;
            if view.shape() != shape || view.dtype() != dtype {
                let found = format!("is {:?} {:?}", view.dtype(), view.shape());
                return Err(wrong(
                    name,
                    format!("{found}, expected {dtype:?} {shape:?}"),
                ));
            }
            Ok(view.data().to_vec())
        };
        let mut states = [Vec::new(), Vec::new(), Vec::new()];
        for entry in self.last_gradients().layout().entries() {
            for (suffix, values) in ["", ".first", ".second"].iter().zip(&mut states) {
                let name = format!("{}{suffix}", entry.name);
                let bytes = read(&name, &entry.shape, Dtype::F32)?;
                values.extend(
                    bytes
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|word| f32::from_le_bytes(*word)),
                );
            }
        }
        let updates = read(UPDATES, &[1], Dtype::U64)?;
        let updates = <[u8; 8]>::try_from(updates.as_slice())
            .map_err(|error| wrong(UPDATES, error.to_string()))?;
        let [params, first, second] = states;
        self.set_trained(&params)?;
        self.optimizer.first = first;
        self.optimizer.second = second;
        self.optimizer.updates = u64::from_le_bytes(updates);
        Ok(())
    }
}
