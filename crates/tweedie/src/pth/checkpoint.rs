//! The two layouts of `torch.save`.
//!
//! Since 1.6 a zip archive: `NAME/data.pkl` is the pickle, `NAME/data/KEY` the bytes of a storage.
//! Before, pickles in a row (a magic number, the protocol, the system, the object, the keys of its
//! storages), then each storage: the number of elements in eight bytes and the elements.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use tch::Tensor;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Pickle, Storage};
use super::{Problem, no_tensor};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;

/// The tensors by name. Those that shared a storage share it again.
pub(super) fn read(bytes: &[u8]) -> Problem<BTreeMap<String, Tensor>> {
    if bytes.starts_with(b"PK") { read_zip(bytes) } else { read_legacy(bytes) }
}

fn read_zip(bytes: &[u8]) -> Problem<BTreeMap<String, Tensor>> {
    let damaged = |e| format!("is a damaged zip archive ({e})");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let names: Vec<String> =
        archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let pickle = names.iter().find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"));
    let folder = pickle.ok_or("is a zip archive without data.pkl, not a PyTorch checkpoint")?;
    let folder = folder.strip_suffix("data.pkl").expect("its end");
    // what torch.save stores is not compressed, so that no more is read than the file holds
    let mut left = bytes.len();
    let mut entry = |name: &str| -> Problem<Vec<u8>> {
        let file = archive.by_name(&format!("{folder}{name}"));
        let mut file = file.map_err(|_| format!("lacks '{}'", name.escape_debug()))?;
        if file.compression() != CompressionMethod::Stored || file.size() > left as u64 {
            return Err(format!(
                "has '{}' compressed or longer than the file",
                name.escape_debug()
            ));
        }
        left -= file.size() as usize;
        let mut content = Vec::with_capacity(file.size() as usize);
        file.read_to_end(&mut content).map_err(|e| format!("is a damaged zip archive ({e})"))?;
        Ok(content)
    };
    if names.iter().any(|name| *name == format!("{folder}byteorder"))
        && entry("byteorder")? != b"little"
    {
        return Err("was written on a big-endian machine".into());
    }
    let object = entry("data.pkl")?;
    let object = Pickle::read(&object)?;
    let mut storages = Storages::new(&object)?;
    for storage in storages.wanted() {
        storages.add(storage, &entry(&format!("data/{}", storage.key))?)?;
    }
    storages.tensors(&object)
}

fn read_legacy(bytes: &[u8]) -> Problem<BTreeMap<String, Tensor>> {
    let mut rest = bytes;
    let mut next = || -> Problem<Pickle> {
        let pickle = Pickle::read(rest)?;
        rest = &rest[pickle.end..];
        Ok(pickle)
    };
    if next()?.integer() != Some(MAGIC) {
        return Err("is a pickle, but not of torch.save".into());
    }
    if next()?.integer() != Some(PROTOCOL) {
        return Err(format!("is not of torch.save's protocol {PROTOCOL}"));
    }
    if next()?.truth("little_endian") != Some(true) {
        return Err("was written on a big-endian machine".into());
    }
    let object = next()?;
    let keys = next()?.texts().ok_or("has no list of storages")?;
    let mut storages = Storages::new(&object)?;
    let wanted = storages.wanted();
    for key in keys {
        let wanted = wanted.iter().find(|storage| storage.key == key);
        let storage = *wanted
            .ok_or_else(|| format!("has a storage '{}' of unknown type", key.escape_debug()))?;
        let (count, after) = rest.split_first_chunk().ok_or("is cut short before a storage")?;
        if u64::from_le_bytes(*count) != storage.elements as u64 {
            return Err(format!(
                "has a storage '{}' of another size than its tensors say",
                key.escape_debug()
            ));
        }
        let length = storage.elements.checked_mul(storage.kind.elt_size_in_bytes());
        let content =
            length.and_then(|length| after.get(..length)).ok_or("is cut short within a storage")?;
        storages.add(storage, content)?;
        rest = &after[content.len()..];
    }
    storages.tensors(&object)
}

/// The storages that a checkpoint's tensors are views of, by key.
struct Storages<'a> {
    wanted: BTreeMap<&'a str, Storage<'a>>,
    read: BTreeMap<&'a str, Tensor>,
}

impl<'a> Storages<'a> {
    fn new(object: &Pickle<'a>) -> Problem<Storages<'a>> {
        let mut wanted = BTreeMap::new();
        for (name, view) in object.tensors()? {
            let storage = *wanted.entry(view.storage.key).or_insert(view.storage);
            if storage != view.storage {
                return Err(format!(
                    "has a tensor '{}' that reads a storage as two types",
                    name.escape_debug()
                ));
            }
        }
        Ok(Storages { wanted, read: BTreeMap::new() })
    }

    fn wanted(&self) -> Vec<Storage<'a>> {
        self.wanted.values().copied().collect()
    }

    fn add(&mut self, storage: Storage<'a>, bytes: &[u8]) -> Problem<()> {
        if storage.elements.checked_mul(storage.kind.elt_size_in_bytes()) != Some(bytes.len()) {
            return Err(format!(
                "has {} bytes of a storage of {} elements",
                bytes.len(),
                storage.elements
            ));
        }
        let values = Tensor::from_data_size(bytes, &[storage.elements as i64], storage.kind);
        self.read.insert(storage.key, values);
        Ok(())
    }

    fn tensors(&self, object: &Pickle) -> Problem<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (name, view) in object.tensors()? {
            let values = self.read.get(view.storage.key);
            let values =
                values.ok_or_else(|| format!("lacks the storage of '{}'", name.escape_debug()))?;
            let tensor = values
                .f_as_strided(&view.size, &view.stride, view.offset)
                .map_err(|e| no_tensor(name, &e))?;
            tensors.insert(name.to_string(), tensor);
        }
        Ok(tensors)
    }
}
