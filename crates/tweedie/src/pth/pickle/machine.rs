//! The instructions of pickles, as far as they build dictionaries of tensors.

use std::collections::HashMap;

use super::{Global, Id, Object, Storage, View};
use crate::pth::{MOST_ELEMENTS, Problem, is_possible};

/// More than any checkpoint's dictionary has: some twenty a tensor.
const MOST_OBJECTS: usize = 1 << 21;

/// The stack machine that a pickle is a program for.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pub at: usize,
    pub objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl<'a> Machine<'a> {
    /// Before the first instruction of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Machine<'a> {
        Machine {
            bytes,
            at: 0,
            objects: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// One instruction; false after the last.
    pub fn step(&mut self) -> Problem<bool> {
        let [code] = self.array()?;
        match code {
            b'.' => return Ok(false),
            // the protocol, and a frame's length
            0x80 | 0x95 => {
                self.take(if code == 0x80 { 1 } else { 8 })?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'N' => self.push(Object::None)?,
            0x88 => self.push(Object::Bool(true))?,
            0x89 => self.push(Object::Bool(false))?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Object::Integer(value.into()))?;
            }
            b'K' => {
                let value = self.length::<1>()?;
                self.push(Object::Integer(value as i128))?;
            }
            b'M' => {
                let value = self.length::<2>()?;
                self.push(Object::Integer(value as i128))?;
            }
            0x8a => {
                let length = self.length::<1>()?;
                let value = long(self.take(length)?)?;
                self.push(Object::Integer(value))?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Object::Float)?;
            }
            b'U' | 0x8c => self.push_text::<1>()?,
            b'T' | b'X' => self.push_text::<4>()?,
            0x8d => self.push_text::<8>()?,
            b')' => self.push(Object::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let first = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or(STACK)?;
                if first < self.floor() {
                    return Err(STACK.into());
                }
                let items = self.stack.split_off(first);
                self.push(Object::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Object::Tuple(items))?;
            }
            b']' => self.push(Object::List(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(&items)?;
            }
            b'q' => {
                let slot = self.length::<1>()?;
                self.put(slot)?;
            }
            b'r' => {
                let slot = self.length::<4>()?;
                self.put(slot)?;
            }
            0x94 => self.put(self.memo.len())?,
            b'h' => {
                let slot = self.length::<1>()?;
                self.get(slot)?;
            }
            b'j' => {
                let slot = self.length::<4>()?;
                self.get(slot)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Global(Global::named(module, name)?))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Object::Text(module), Object::Text(name)) =
                    (&self.objects[module], &self.objects[name])
                else {
                    return Err("names something by no text".into());
                };
                self.push(Object::Global(Global::named(module, name)?))?;
            }
            b'Q' => {
                let storage = self.pop()?;
                let storage = self.storage(storage)?;
                self.push(Object::Storage(storage))?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.reduce(function, arguments)?;
            }
            // a new object of a class
            0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                match (&self.objects[class], self.tuple(arguments)?) {
                    (Object::Global(Global::Namespace), []) => {
                        self.push(Object::Dict(Vec::new()))?
                    }
                    _ => return Err("makes an object that tensors do not need".into()),
                }
            }
            // attributes of an OrderedDict (a state dict's `_metadata`) or of options: of no use
            // here
            b'b' => {
                self.pop()?;
                if !matches!(self.top()?, Object::Dict(_)) {
                    return Err("sets attributes of something that is not a dictionary".into());
                }
            }
            _ => {
                return Err(format!(
                    "holds the pickle instruction {code:#04x}, which tensors do not need"
                ));
            }
        }
        Ok(true)
    }

    fn take(&mut self, length: usize) -> Problem<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let part = rest.get(..length).ok_or("is cut short within its pickle")?;
        self.at += length;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Problem<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("N bytes"))
    }

    /// An unsigned number of `N` bytes.
    fn length<const N: usize>(&mut self) -> Problem<usize> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.take(N)?);
        usize::try_from(u64::from_le_bytes(bytes))
            .map_err(|_| "holds a length beyond this machine's".into())
    }

    fn line(&mut self) -> Problem<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length =
            rest.iter().position(|&b| b == b'\n').ok_or("is cut short within its pickle")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| "has a name that is not text".into())
    }

    fn push(&mut self, object: Object<'a>) -> Problem<()> {
        if self.objects.len() == MOST_OBJECTS {
            return Err(format!("has a pickle of more than {MOST_OBJECTS} objects"));
        }
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    fn push_text<const N: usize>(&mut self) -> Problem<()> {
        let length = self.length::<N>()?;
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| "has a name that is not text")?;
        self.push(Object::Text(text))
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub fn pop(&mut self) -> Problem<Id> {
        if self.stack.len() <= self.floor() {
            return Err(STACK.into());
        }
        Ok(self.stack.pop().expect("not empty"))
    }

    fn pop_mark(&mut self) -> Problem<Vec<Id>> {
        let height = self.marks.pop().ok_or(STACK)?;
        Ok(self.stack.split_off(height))
    }

    fn top(&mut self) -> Problem<&mut Object<'a>> {
        if self.stack.len() <= self.floor() {
            return Err(STACK.into());
        }
        let id = *self.stack.last().expect("not empty");
        Ok(&mut self.objects[id])
    }

    fn append(&mut self, items: Vec<Id>) -> Problem<()> {
        match self.top()? {
            Object::List(list) => list.extend(items),
            _ => return Err("appends to something that is not a list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Problem<()> {
        if !items.len().is_multiple_of(2) {
            return Err(STACK.into());
        }
        match self.top()? {
            Object::Dict(pairs) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))
            }
            _ => return Err("sets items of something that is not a dictionary".into()),
        }
        Ok(())
    }

    fn put(&mut self, slot: usize) -> Problem<()> {
        self.top()?;
        self.memo.insert(slot, *self.stack.last().expect("not empty"));
        Ok(())
    }

    fn get(&mut self, slot: usize) -> Problem<()> {
        let id = *self.memo.get(&slot).ok_or("recalls what it did not store")?;
        self.stack.push(id);
        Ok(())
    }

    fn tuple(&self, id: Id) -> Problem<&[Id]> {
        match &self.objects[id] {
            Object::Tuple(items) => Ok(items),
            _ => Err("has no tuple where one belongs".into()),
        }
    }

    /// `('storage', type, key, device, elements)`, with a last item of `None` in the old layout.
    fn storage(&self, id: Id) -> Problem<Storage<'a>> {
        let items: Vec<&Object> = self.tuple(id)?.iter().map(|&id| &self.objects[id]).collect();
        match items[..] {
            [
                Object::Text("storage"),
                Object::Global(Global::Storage(kind)),
                Object::Text(key),
                Object::Text(_),
                Object::Integer(elements),
                ref rest @ ..,
            ] if matches!(rest, [] | [Object::None]) => {
                let elements =
                    usize::try_from(*elements).map_err(|_| "has a storage of impossible size")?;
                Ok(Storage { kind: *kind, key, elements })
            }
            _ => Err("refers to something that is not a plain storage".into()),
        }
    }

    fn reduce(&mut self, function: Id, arguments: Id) -> Problem<()> {
        let Object::Global(function) = self.objects[function] else {
            return Err("calls something that is no function".into());
        };
        let arguments = self.tuple(arguments)?;
        match (function, arguments) {
            (Global::OrderedDict, []) => self.push(Object::Dict(Vec::new())),
            (Global::RebuildParameter, &[data, ..])
                if matches!(self.objects[data], Object::Tensor(_)) =>
            {
                self.stack.push(data);
                Ok(())
            }
            (Global::RebuildTensor, &[storage, offset, size, stride, ..]) => {
                let view = self.view(storage, offset, size, stride)?;
                self.push(Object::Tensor(Box::new(view)))
            }
            _ => Err(format!("calls {function:?} with arguments that are not its own")),
        }
    }

    fn view(&self, storage: Id, offset: Id, size: Id, stride: Id) -> Problem<View<'a>> {
        let Object::Storage(storage) = self.objects[storage] else {
            return Err("has a tensor without a storage".into());
        };
        let whole = |id: Id| match self.objects[id] {
            Object::Integer(value) => i64::try_from(value)
                .ok()
                .filter(|v| (0..=MOST_ELEMENTS).contains(v))
                .ok_or("has a tensor of impossible shape"),
            _ => Err("has a tensor whose shape is not whole numbers"),
        };
        let all = |id: Id| -> Problem<Vec<i64>> {
            Ok(self.tuple(id)?.iter().map(|&id| whole(id)).collect::<Result<_, _>>()?)
        };
        let view = View { storage, offset: whole(offset)?, size: all(size)?, stride: all(stride)? };
        if view.size.len() != view.stride.len() || !is_possible(&view.size) {
            return Err("has a tensor of impossible shape".into());
        }
        let elements = storage.elements.min(MOST_ELEMENTS as usize) as i128;
        let mut count = 1i128;
        let mut last = i128::from(view.offset);
        for (&size, &stride) in view.size.iter().zip(&view.stride) {
            count *= i128::from(size);
            last += i128::from(size - 1).max(0) * i128::from(stride);
            if count > elements {
                break;
            }
        }
        if count > elements || (count > 0 && last >= elements) {
            return Err("has a tensor that is larger than its storage".into());
        }
        Ok(view)
    }
}

const STACK: &str = "has a pickle that takes more than it put";

/// Two's complement, least byte first.
fn long(bytes: &[u8]) -> Problem<i128> {
    if bytes.len() > 16 {
        return Err("holds a number of more than 16 bytes".into());
    }
    let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut all = [fill; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    Ok(i128::from_le_bytes(all))
}
