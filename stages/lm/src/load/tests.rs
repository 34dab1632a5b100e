use super::*;
use crate::config::Architecture;
use crate::weights::tests::tiny;

fn checkpoint(architecture: Architecture) -> Checkpoint {
    let config = tiny(architecture);
    let weights = Weights::init(&config, 7).unwrap();
    let mut files = BTreeMap::new();
    files.insert("chat_template.jinja".to_owned(), b"{{ x }}".to_vec());
    Checkpoint {
        config,
        weights,
        files,
    }
}

fn all_values(weights: &Weights) -> BTreeMap<String, Vec<f32>> {
    let values = |name: &String| (name.clone(), weights.values(name).unwrap());
    weights.0.keys().map(values).collect()
}

fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let named = entries.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    });
    named.collect()
}

#[test]
fn a_saved_model_loads_to_itself_and_saves_to_the_same_bytes() {
    let small = SaveOptions {
        shard_bytes: 3000,
        ..SaveOptions::default()
    };
    for architecture in [
        Architecture::Qwen3,
        Architecture::Qwen2,
        Architecture::Llama,
    ] {
        for options in [SaveOptions::default(), small] {
            let saved = checkpoint(architecture);
            let folder = tempfile::tempdir().unwrap();
            saved.save(folder.path(), options).unwrap();
            let loaded = Checkpoint::load(folder.path()).unwrap();
            assert_eq!(loaded.config, saved.config);
            assert_eq!(all_values(&loaded.weights), all_values(&saved.weights));
            assert_eq!(loaded.chat_template().unwrap(), "{{ x }}");

            let again = tempfile::tempdir().unwrap();
            loaded.save(again.path(), options).unwrap();
            let bytes = bytes_of(folder.path());
            assert_eq!(bytes, bytes_of(again.path()));
            let sharded = options.shard_bytes == 3000;
            assert_eq!(bytes.contains_key("model.safetensors.index.json"), sharded);
        }
    }
}

#[test]
fn bf16_is_rounded_once_and_named() {
    let saved = checkpoint(Architecture::Qwen3);
    let folder = tempfile::tempdir().unwrap();
    let options = SaveOptions {
        precision: Precision::Bf16,
        ..SaveOptions::default()
    };
    saved.save(folder.path(), options).unwrap();
    let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert!(text.contains("\"torch_dtype\": \"bfloat16\""), "{text}");
    let loaded = all_values(&Checkpoint::load(folder.path()).unwrap().weights);
    for (name, values) in all_values(&saved.weights) {
        let rounded = values.iter().map(|&v| half::bf16::from_f32(v).to_f32());
        assert!(rounded.eq(loaded[&name].iter().copied()), "{name}");
    }
}

#[test]
fn end_tokens_of_the_generation_config_join_those_of_the_config() {
    let mut saved = checkpoint(Architecture::Qwen3);
    let text = br#"{"eos_token_id": [1, 5], "temperature": 0.6}"#;
    saved
        .files
        .insert(GENERATION_FILE.to_owned(), text.to_vec());
    let folder = tempfile::tempdir().unwrap();
    saved.save(folder.path(), SaveOptions::default()).unwrap();
    let loaded = Checkpoint::load(folder.path()).unwrap();
    assert_eq!(loaded.config.eos_token_ids, [1, 5]);
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(Architecture::Qwen3)
        .save(folder.path(), SaveOptions::default())
        .unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let error = || Checkpoint::load(folder.path()).unwrap_err().to_string();
    for length in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(
            error().contains("model.safetensors"),
            "{length}: {}",
            error()
        );
    }
    std::fs::write(&path, &whole).unwrap();

    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("\"hidden_size\": 12", "\"hidden_size\": 16"),
    )
    .unwrap();
    let message = error();
    assert!(
        message.contains("model.safetensors") && message.contains("expected"),
        "{message}"
    );
    std::fs::write(
        &config,
        text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
    )
    .unwrap();
    assert!(error().contains("model.layers.2"), "{}", error());
    std::fs::write(&config, "{").unwrap();
    assert!(error().contains("config.json"), "{}", error());
    std::fs::remove_file(&config).unwrap();
    assert!(error().contains("config.json"), "{}", error());
}

#[test]
fn an_index_cannot_point_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let options = SaveOptions {
        shard_bytes: 3000,
        ..SaveOptions::default()
    };
    checkpoint(Architecture::Llama)
        .save(folder.path(), options)
        .unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("model-00001", "../model-00001")).unwrap();
    let message = Checkpoint::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("plain file name"), "{message}");
    std::fs::write(&index, "{}").unwrap();
    assert!(Checkpoint::load(folder.path()).is_err());
}
