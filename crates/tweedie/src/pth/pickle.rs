//! The pickles in PyTorch's checkpoints, read without running anything.
//!
//! A pickle is a program for a stack machine. Of its instructions only those are known that build
//! (ordered) dictionaries of tensors, and the options of a training beside them; what it may name
//! stands in one list ([`Global::named`]), and none of it is called: a tensor is noted as a view of
//! a storage. Instructions: Python's `pickletools`, protocols 0 to 5.

mod machine;

use tch::Kind;

use self::machine::Machine;
use super::Problem;

/// Index of an object. All lie in one vector, so that dropping them does not recurse however deep
/// they nest.
type Id = usize;

#[derive(Clone, Debug)]
enum Object<'a> {
    None,
    Bool(bool),
    Integer(i128),
    Float,
    Text(&'a str),
    Global(Global),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage(Storage<'a>),
    Tensor(Box<View<'a>>),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// Options of a training: seen as an empty dictionary.
    Namespace,
    Storage(Kind),
}

impl Global {
    fn named(module: &str, name: &str) -> Problem<Global> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("argparse", "Namespace") => Global::Namespace,
            ("torch", "DoubleStorage") => Global::Storage(Kind::Double),
            ("torch", "FloatStorage") => Global::Storage(Kind::Float),
            ("torch", "HalfStorage") => Global::Storage(Kind::Half),
            ("torch", "BFloat16Storage") => Global::Storage(Kind::BFloat16),
            ("torch", "LongStorage") => Global::Storage(Kind::Int64),
            ("torch", "IntStorage") => Global::Storage(Kind::Int),
            ("torch", "ShortStorage") => Global::Storage(Kind::Int16),
            ("torch", "CharStorage") => Global::Storage(Kind::Int8),
            ("torch", "ByteStorage") => Global::Storage(Kind::Uint8),
            _ => {
                let short = |text: &str| {
                    text.chars().take(80).collect::<String>().escape_debug().to_string()
                };
                let (module, name) = (short(module), short(name));
                return Err(format!(
                    "asks for '{module}.{name}', which tensors do not need; nothing was run"
                ));
            }
        })
    }
}

/// Elements stored in one piece, outside the pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    pub kind: Kind,
    pub key: &'a str,
    pub elements: usize,
}

/// A tensor: element `i` is element `offset + Σ_j i_j stride_j` of its storage, which has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View<'a> {
    pub storage: Storage<'a>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// Where a training keeps the average of its parameters, which are the ones to use.
const AVERAGE: &str = "ema";

/// What a pickle builds.
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Id,
    /// Where the bytes after it start.
    pub end: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`.
    pub fn read(bytes: &'a [u8]) -> Problem<Pickle<'a>> {
        let mut machine = Machine::new(bytes);
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Pickle { objects: machine.objects, root, end: machine.at })
    }

    /// The whole number that it is.
    pub fn integer(&self) -> Option<i128> {
        match self.objects[self.root] {
            Object::Integer(value) => Some(value),
            _ => None,
        }
    }

    /// The list of texts that it is.
    pub fn texts(&self) -> Option<Vec<&'a str>> {
        let Object::List(items) = &self.objects[self.root] else { return None };
        items.iter().map(|&id| self.text(id)).collect()
    }

    /// The truth under `key` of the dictionary that it is.
    pub fn truth(&self, key: &str) -> Option<bool> {
        let Object::Dict(pairs) = &self.objects[self.root] else { return None };
        let (_, value) = pairs.iter().find(|(k, _)| self.text(*k) == Some(key))?;
        match self.objects[*value] {
            Object::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// The tensors by name of the dictionary that it is, or of that under [`AVERAGE`] in it.
    pub fn tensors(&self) -> Problem<Vec<(&'a str, &View<'a>)>> {
        let Object::Dict(pairs) = &self.objects[self.root] else {
            return Err("holds no dictionary of tensors (a state dict)".into());
        };
        let average = pairs.iter().find_map(|&(key, value)| match &self.objects[value] {
            Object::Dict(pairs) if self.text(key) == Some(AVERAGE) => Some(pairs),
            _ => None,
        });
        let pairs = average.unwrap_or(pairs);
        let named = |&(key, value): &(Id, Id)| {
            let name = self.text(key).ok_or("has a tensor whose name is not text")?;
            match &self.objects[value] {
                Object::Tensor(view) => Ok((name, &**view)),
                _ => Err(format!("has '{}', which is not a tensor", name.escape_debug())),
            }
        };
        pairs.iter().map(named).collect()
    }

    fn text(&self, id: Id) -> Option<&'a str> {
        match self.objects[id] {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }
}
