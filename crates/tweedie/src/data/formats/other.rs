//! Files that are no table but are often given for one: what they are, and what to do with them.

use super::packed::Packing;
use super::{Source, excel, table_formats, text};
use crate::{Error, Result};

/// What to do with what a file holds.
#[derive(Clone, Copy)]
enum Remedy {
    Sheet,
    Table,
    Decompress,
}
use Remedy::{Decompress, Sheet, Table};

impl Remedy {
    fn in_words(self) -> String {
        match self {
            Sheet => format!("save its sheet as {}", text::CSV.name),
            Table => format!("save the table as {}", table_formats()),
            Decompress => "decompress it first".into(),
        }
    }
}

/// How such files begin, what they are, and the remedy.
const KNOWN: [(&[u8], &str, Remedy); 10] = [
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook", Sheet),
    (b"FEA1", "is an old Feather file", Table),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", Table),
    (b"SQLite format 3\0", "is an SQLite database", Table),
    (b"ORC", "is an ORC file", Table),
    (b"Obj\x01", "is an Avro file", Table),
    (b"MATLAB 5.0", "is a MATLAB file", Table),
    (b"%PDF-", "is a PDF document", Table),
    (b"BZh", "is compressed by bzip2", Decompress),
    (b"\xfd7zXZ\0", "is compressed by xz", Decompress),
];

/// The file of an LMDB database in its folder.
const LMDB: &str = "data.mdb";

/// Whether a file begins with a meta page of LMDB: 16 bytes of any page, then the magic number
/// 0xBEEFC0DE in the order of the machine that wrote it.
fn is_lmdb(source: &Source) -> bool {
    let magic = 0xbeef_c0de_u32;
    let word = source.head.get(16..20);
    word.is_some_and(|word| [magic.to_le_bytes(), magic.to_be_bytes()].iter().any(|m| word == m))
}

/// How the images of an LMDB database of encoded images, such as LSUN's, get into a folder: what
/// `data.py export --flat` of github.com/fyu/lsun does under Python 2.
fn export_of_lmdb(source: &Source) -> String {
    let (path, subdir) = (source.path.display(), if source.folder { "" } else { "subdir=False, " });
    format!(
        "export its images to a folder, by data.py export --flat of github.com/fyu/lsun (Python 2) \
         or, after mkdir images, by python3 -c \"import lmdb; \
         [open('images/' + k.decode() + '.webp', 'wb').write(v) for k, v in \
         lmdb.open('{path}', {subdir}readonly=True, lock=False).begin().cursor()]\" (pip install \
         lmdb)"
    )
}

/// Refuses what is certainly no table and no images.
///
/// # Errors
/// [`Error::Data`] that says what it is.
pub(super) fn refuse_known(source: &Source) -> Result<()> {
    let (head, extension) = (&source.head[..], source.extension.as_str());
    let is = |what: &str, remedy: Remedy| Err(Error::data(source.path, what, remedy.in_words()));
    let environment = source.folder.then(|| source.path.join(LMDB));
    if environment.as_ref().is_some_and(|file| file.is_file()) || is_lmdb(source) {
        let problem = "is an LMDB database (LSUN's format), which is not read";
        return Err(Error::data(source.path, problem, export_of_lmdb(source)));
    }
    if source.folder {
        return Ok(());
    }
    if head.starts_with(b"PK\x03\x04") && extension != "npz" {
        let holds = |part: &[u8]| head.windows(part.len()).any(|w| w == part);
        if extension == "xlsb" || holds(b"xl/workbook.bin") {
            return is("is an Excel workbook in binary form, which is not read", Sheet);
        }
        if excel::is_workbook(source) || source.is_named_as(&excel::FORMAT) {
            return Ok(());
        }
        if extension == "ods" || holds(b"opendocument") {
            return is("is an OpenDocument workbook, which is not read", Sheet);
        }
        if extension == "zip" {
            let remedy = "unpack it first, and give the table in it";
            return Err(Error::data(source.path, "is a ZIP archive", remedy));
        }
    }
    // pickles of protocol 2 to 5
    if matches!(extension, "pkl" | "pickle") || matches!(head, [0x80, 2..=5, ..]) {
        return is("is a Python pickle, which is not read: it can run code", Table);
    }
    if matches!(extension, "json" | "jsonl") {
        return is("is JSON, which is not read", Table);
    }
    // a header of text may begin with the same letters
    let binary = head.contains(&0) || std::str::from_utf8(&head[..head.len().min(64)]).is_err();
    let begins = |magic: &[u8]| head.starts_with(magic) && (binary || magic.starts_with(b"%"));
    match KNOWN.iter().find(|(magic, ..)| begins(magic)) {
        Some((_, what, remedy)) => is(what, *remedy),
        None => Ok(()),
    }
}

/// Refuses a file that no other format knows and that is not text.
///
/// # Errors
/// [`Error::Data`] that says what it is.
pub(super) fn refuse_unknown(source: &Source) -> Result<()> {
    let (path, head) = (source.path, &source.head[..]);
    let is = |problem: &str, remedy: &str| Err(Error::data(path, problem, remedy));
    if source.length == 0 {
        return is("the file is empty, expected rows of numbers", "check how it was written");
    }
    let packing = [Packing::Gzip, Packing::Zstandard];
    if let Some(packing) = packing.iter().find(|packing| packing.ending() == source.extension) {
        let problem = format!("is not compressed by {}, as its name says", packing.name());
        let remedy = format!("see what {} -t {} says", packing.program(), path.display());
        return is(&problem, &remedy);
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        let remedy = "save it as UTF-8 (iconv -f UTF-16 -t UTF-8)";
        return is("is UTF-16 text, expected UTF-8", remedy);
    }
    if head[..head.len().min(1024)].contains(&0) {
        let remedy = format!("give a {} file", table_formats());
        return is("is a binary file of unknown format", &remedy);
    }
    Ok(())
}
