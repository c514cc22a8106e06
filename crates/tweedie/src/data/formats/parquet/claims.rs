//! What a Parquet file claims of itself, compared with its length before the decoder allocates or
//! recurses for it.
//!
//! The decoder trusts a footer's numbers of children, follows groups as deep as they nest, and
//! reserves whatever size a page claims to have. Footer and page headers are structs of Thrift's
//! compact protocol; here they are walked without building anything.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// A result whose error says what is wrong with the file.
type Problem<T> = std::result::Result<T, String>;

/// Groups within groups: tables have one level, lists of structs some five.
const MOST_LEVELS: usize = 64;
/// Columns and groups together.
const MOST_ELEMENTS: usize = 1 << 17;
/// Characters in the full names of all columns: a long name of a group counts once for each column
/// in it.
const MOST_NAMES: usize = 1 << 26;
/// Structs within structs that are skipped.
const MOST_DEPTH: usize = 64;
/// What a page may hold beside 16 bytes for each of its values.
const PAGE_SLACK: u64 = 1 << 16;
/// A page header is read in pieces of this size: those of numbers have some fifty bytes.
const HEADER_BYTES: [u64; 2] = [1 << 12, 1 << 20];

const CUT: &str = "it ends too early";

/// Types of Thrift's compact protocol.
mod kind {
    pub const I32: u8 = 5;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const STRUCT: u8 = 12;
}

/// Refuses a footer whose schema nests too deep, claims more children than it has, or has lists
/// longer than itself. A file without a footer passes: the decoder says what is wrong with it.
pub(super) fn check_footer(file: &mut File) -> std::io::Result<Problem<()>> {
    let length = file.seek(SeekFrom::End(0))?;
    if length < 12 {
        return Ok(Ok(()));
    }
    let mut tail = [0; 8];
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if &tail[4..] != b"PAR1" || footer + 8 > length {
        return Ok(Ok(()));
    }
    let mut bytes = vec![0; footer as usize];
    file.seek(SeekFrom::Start(length - 8 - footer))?;
    file.read_exact(&mut bytes)?;
    Ok(walk_footer(&bytes))
}

fn walk_footer(bytes: &[u8]) -> Problem<()> {
    let mut walker = Walker { rest: bytes };
    // the decoder reads a field by its number, whatever type it claims to have: up to the schema
    // both must be as they should, so that it sees what is seen here; it comes second, after the
    // version
    let (mut last, mut schema) = (0, false);
    while let Some((id, kind)) = walker.field(&mut last)? {
        match (id, kind) {
            (1, kind::I32) => drop(walker.signed()?),
            (2, kind::LIST) if !schema => {
                walk_schema(&mut walker)?;
                schema = true;
            }
            (_, kind) if schema => walker.skip(kind, MOST_DEPTH)?,
            (id, kind) => {
                return Err(format!("field {id} of the type {kind} comes before its schema"));
            }
        }
    }
    Ok(())
}

/// Walks the logical type of a column: a struct of one struct, whose fields have the types that the
/// decoder reads.
fn walk_logical(walker: &mut Walker) -> Problem<()> {
    let mut last = 0;
    while let Some((variant, kind)) = walker.field(&mut last)? {
        if kind != kind::STRUCT {
            return Err(format!("a logical type is of the type {kind}"));
        }
        let mut last = 0;
        while let Some((id, kind)) = walker.field(&mut last)? {
            match (variant, id, kind) {
                // decimals; times and their units; integers; variants; shapes on the earth
                (5, 1 | 2, kind::I32) | (18, 2, kind::I32) => drop(walker.signed()?),
                (7 | 8, 1, 1 | 2) | (10, 2, 1 | 2) => (),
                (7 | 8, 2, kind::STRUCT) => walk_unit(walker)?,
                (10 | 16, 1, 3) => walker.pass(1)?,
                (17 | 18, 1, kind::BINARY) => walker.skip(kind, 1)?,
                _ => {
                    return Err(format!(
                        "logical type {variant} has a field {id} of the type {kind}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A struct of one empty struct: a unit of time.
fn walk_unit(walker: &mut Walker) -> Problem<()> {
    let mut last = 0;
    while let Some((_, kind)) = walker.field(&mut last)? {
        if kind != kind::STRUCT || walker.byte()? != 0 {
            return Err("a unit of time is none".into());
        }
    }
    Ok(())
}

fn walk_schema(walker: &mut Walker) -> Problem<()> {
    let (kind, count) = walker.list()?;
    if count > 0 && kind != kind::STRUCT {
        return Err("its schema is not a list of columns".into());
    }
    if count > MOST_ELEMENTS {
        return Err(format!("its schema has {count} entries, at most {MOST_ELEMENTS} are read"));
    }
    // of the groups that are open: children to come, and the length of the name so far
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut names = 0;
    for i in 0..count {
        let (mut name, mut children, mut last) = (0, 0, 0);
        while let Some((id, kind)) = walker.field(&mut last)? {
            match (id, kind) {
                (4, kind::BINARY) => {
                    name = walker.number()? as usize;
                    walker.pass(name)?;
                }
                (5, kind::I32) => children = walker.signed()?,
                (1..=3 | 6..=9, kind::I32) => drop(walker.signed()?),
                (10, kind::STRUCT) => walk_logical(walker)?,
                (1..=10, _) => return Err(format!("field {id} of a column has the type {kind}")),
                (_, kind) => walker.skip(kind, MOST_DEPTH)?,
            }
        }
        let left = count - i - 1;
        let children = usize::try_from(children).ok().filter(|&n| n <= left).ok_or_else(|| {
            format!("a group claims {children} columns, of which the footer has {left} at most")
        })?;
        let above = open.last().map_or(0, |(_, name)| *name);
        if let Some((to_come, _)) = open.last_mut() {
            *to_come -= 1;
        }
        names += above + name;
        if names > MOST_NAMES {
            return Err(format!("the names of its columns have more than {MOST_NAMES} characters"));
        }
        if children > 0 {
            open.push((children, above + name));
        }
        if open.len() > MOST_LEVELS {
            return Err(format!("its columns nest deeper than {MOST_LEVELS} levels"));
        }
        while open.last().is_some_and(|(to_come, _)| *to_come == 0) {
            open.pop();
        }
    }
    Ok(())
}

/// Refuses pages of a column of numbers that claim more values than the `rows` of their group, more
/// bytes than such values take, or more than the `length` bytes from `start` on that the column
/// has. Pages of texts may claim the `text` bytes that all columns may together.
pub(super) fn check_pages(
    file: &mut File,
    start: i64,
    length: i64,
    rows: u64,
    mut text: Option<&mut u64>,
) -> std::io::Result<Problem<()>> {
    let end = file.seek(SeekFrom::End(0))?;
    let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else {
        return Ok(Err("a column lies before the start of the file".into()));
    };
    let Some(last) = start.checked_add(length).filter(|last| *last <= end) else {
        return Ok(Err("a column lies beyond the end of the file".into()));
    };
    let (mut at, mut values) = (start, 0);
    while at < last {
        let mut header = Err(CUT.into());
        for size in HEADER_BYTES {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(at))?;
            file.by_ref().take(size.min(last - at)).read_to_end(&mut bytes)?;
            header = Page::of(&bytes);
            if header.is_ok() {
                break;
            }
        }
        let page = match header {
            Ok(page) => page,
            Err(problem) => return Ok(Err(format!("a page header is damaged: {problem}"))),
        };
        let size = page.header + page.compressed;
        let too_long = match &mut text {
            None => page.unpacked > 16 * page.values + PAGE_SLACK,
            Some(left) => match left.checked_sub(page.unpacked) {
                Some(rest) => {
                    **left = rest;
                    false
                }
                None => true,
            },
        };
        if too_long || page.dictionary && page.values > page.unpacked {
            let (values, unpacked) = (page.values, page.unpacked);
            let what = if text.is_some() { "texts" } else { "numbers" };
            return Ok(Err(format!("a page claims {unpacked} bytes for {values} {what}")));
        }
        if !page.dictionary {
            values += page.values;
        }
        if size > last - at || values > rows {
            return Ok(Err(format!(
                "the pages of a column claim more than its {rows} rows or {length} bytes"
            )));
        }
        at += size;
    }
    Ok(Ok(()))
}

/// What a page's header says.
struct Page {
    /// Bytes of the header itself, of the page in the file, and of the page once unpacked.
    header: u64,
    compressed: u64,
    unpacked: u64,
    values: u64,
    dictionary: bool,
}

impl Page {
    fn of(bytes: &[u8]) -> Problem<Page> {
        let mut walker = Walker { rest: bytes };
        let (mut sizes, mut values, mut dictionary, mut last) = ([0; 2], 0, false, 0);
        while let Some((id, kind)) = walker.field(&mut last)? {
            match (id, kind) {
                (1, kind::I32) => dictionary = walker.signed()? == 2,
                (2 | 3, kind::I32) => sizes[id as usize - 2] = walker.signed()?,
                (5 | 7 | 8, kind::STRUCT) => {
                    let mut last = 0;
                    while let Some((id, kind)) = walker.field(&mut last)? {
                        match (id, kind) {
                            (1, kind::I32) => values = walker.signed()?,
                            (1, _) => return Err("its number of values is none".into()),
                            (_, kind) => walker.skip(kind, MOST_DEPTH)?,
                        }
                    }
                }
                (1..=3 | 5 | 7 | 8, _) => return Err(format!("field {id} has the type {kind}")),
                (_, kind) => walker.skip(kind, MOST_DEPTH)?,
            }
        }
        let number = |claim: i64| {
            u64::try_from(claim)
                .ok()
                .filter(|&n| n <= i32::MAX as u64)
                .ok_or_else(|| format!("it claims {claim}"))
        };
        Ok(Page {
            header: (bytes.len() - walker.rest.len()) as u64,
            unpacked: number(sizes[0])?,
            compressed: number(sizes[1])?,
            values: number(values)?,
            dictionary,
        })
    }
}

/// A position in bytes of Thrift's compact protocol.
struct Walker<'a> {
    rest: &'a [u8],
}

impl Walker<'_> {
    fn byte(&mut self) -> Problem<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or(CUT)?;
        self.rest = rest;
        Ok(byte)
    }

    fn pass(&mut self, count: usize) -> Problem<()> {
        self.rest = self.rest.get(count..).ok_or(CUT)?;
        Ok(())
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Problem<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("it holds a number of more than 64 bits".into())
    }

    fn signed(&mut self) -> Problem<i64> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Number and type of the next field of a struct; nothing at its end.
    fn field(&mut self, last: &mut i16) -> Problem<Option<(i16, u8)>> {
        let head = self.byte()?;
        if head & 0x0f == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.signed()? as i16,
            more => last.checked_add(more.into()).ok_or("it numbers a field beyond 32767")?,
        };
        Ok(Some((*last, head & 0x0f)))
    }

    /// Type and number of the elements of a list, each of which takes a byte at least.
    fn list(&mut self) -> Problem<(u8, usize)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.number()?,
            few => few.into(),
        };
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok((head & 0x0f, count)),
            _ => Err(format!("a list claims {count} entries in {} bytes", self.rest.len())),
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Problem<()> {
        let deeper = depth.checked_sub(1).ok_or("its structs nest too deep")?;
        match kind {
            1 | 2 => Ok(()),
            3 => self.pass(1),
            4..=6 => self.number().map(drop),
            7 => self.pass(8),
            kind::BINARY => {
                let length = self.number()?;
                self.pass(usize::try_from(length).map_err(|_| CUT)?)
            }
            kind::LIST | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip(kind, deeper))
            }
            11 => {
                let count = self.number()?;
                if count > self.rest.len() as u64 {
                    return Err(format!(
                        "a map claims {count} entries in {} bytes",
                        self.rest.len()
                    ));
                }
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.skip(kinds >> 4, deeper)?;
                    self.skip(kinds & 0x0f, deeper)
                })
            }
            kind::STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, deeper)?;
                }
                Ok(())
            }
            13 => self.pass(16),
            _ => Err(format!("it holds a value of the unknown type {kind}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn signed(value: i64) -> Vec<u8> {
        let mut left = (value << 1 ^ value >> 63) as u64;
        let mut bytes = Vec::new();
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes
    }

    /// A page of `kind` (0 data, 2 dictionary) that claims these sizes and values, and has `stored`
    /// bytes of zeros.
    fn page(kind: i64, unpacked: i64, compressed: i64, values: i64, stored: usize) -> Vec<u8> {
        let about: u8 = if kind == 2 { 0x4c } else { 0x2c };
        let sizes =
            [&[0x15][..], &signed(kind), &[0x15], &signed(unpacked), &[0x15], &signed(compressed)]
                .concat();
        [&sizes[..], &[about, 0x15], &signed(values), &[0, 0], &vec![0; stored]].concat()
    }

    fn check(pages: &[Vec<u8>], rows: u64) -> Problem<()> {
        let mut file = tempfile::tempfile().unwrap();
        let bytes = pages.concat();
        file.write_all(b"PAR1").unwrap();
        file.write_all(&bytes).unwrap();
        check_pages(&mut file, 4, bytes.len() as i64, rows, None).unwrap()
    }

    /// What a decoder would reserve: 2 GB for a page, 16 GB for a dictionary, rows without end.
    #[test]
    fn pages_that_claim_too_much_are_refused() {
        let data = |unpacked, values| page(0, unpacked, 10, values, 10);
        assert_eq!(check(&[page(2, 80, 20, 10, 20), data(400, 50), data(400, 50)], 100), Ok(()));
        let says = |pages: &[Vec<u8>], rows, what: &str| {
            let problem = check(pages, rows).unwrap_err();
            assert!(problem.contains(what), "{problem}");
        };
        says(&[data(i32::MAX.into(), 100)], 100, "claims 2147483647 bytes for 100 numbers");
        says(
            &[page(2, 80, 20, i32::MAX.into(), 20)],
            100,
            "claims 80 bytes for 2147483647 numbers",
        );
        says(&[data(400, 60), data(400, 60)], 100, "more than its 100 rows");
        says(&[page(0, 400, 1000, 50, 10)], 100, "more than its 100 rows or 2");
        says(&[data(-1, 50)], 100, "it claims -1");
        says(&[data(400, 1 << 40)], 100, "it claims 1099511627776");
        says(&[vec![0x15]], 100, "ends too early");
        // a list of 2³¹ booleans, which take no byte where they are skipped
        says(
            &[vec![0xf9, 0xf1, 0xff, 0xff, 0xff, 0xff, 7]],
            100,
            "a list claims 2147483647 entries",
        );
    }

    #[test]
    fn structs_nest_no_deeper_than_the_stack() {
        let mut walker = Walker { rest: &vec![0x1c; 1 << 20] };
        assert!(walker.skip(kind::STRUCT, MOST_DEPTH).unwrap_err().contains("too deep"));
        let mut walker = Walker { rest: &vec![0x19; 1 << 20] };
        assert!(walker.skip(kind::LIST, MOST_DEPTH).unwrap_err().contains("too deep"));
    }
}
