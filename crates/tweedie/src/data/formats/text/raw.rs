//! Text tables as they come: cells are kept as they are, whatever they hold.

use std::path::Path;

use super::layout::{self, Below};
use super::{Opened, only_header, open, ragged};
use crate::data::options::TableOptions;
use crate::data::raw::{Holds, RawReader};
use crate::error::Place;
use crate::{Error, Result};

/// Reads a text table, one reused record at a time.
pub(super) fn read_raw(path: &Path, options: &TableOptions, table: &mut RawReader) -> Result<()> {
    let layout = layout::guess(path, options, Below::Anything)?;
    let Opened { mut records, mut record, width, names } =
        open(path, layout, &mut table.collector)?;
    let heads = layout.header.then(|| record.clone());
    table.choose(names, |_| Holds::Any)?;
    let positions: Vec<usize> = table.collector.chosen.iter().map(|(at, _)| *at).collect();
    let mut more = !layout.header || records.next(&mut record)?;
    if !more {
        return Err(only_header(path, options, "cells"));
    }
    while more {
        if record.len() != width {
            return Err(ragged(path, options, &records, &record, width, layout));
        }
        let place = || Place::file(path).line(records.line(&record));
        if heads.as_ref() == Some(&record) {
            let problem = "this is the header again (were files put together?)";
            return Err(Error::data_at(place(), problem, "delete the line"));
        }
        for (column, &position) in table.columns.iter_mut().zip(&positions) {
            let cell = std::str::from_utf8(&record[position]).map_err(|_| {
                let problem = "found bytes that are not UTF-8 text";
                Error::data_at(place().column(&column.name), problem, "save the file as UTF-8")
            })?;
            column.push_cell(cell, layout.decimal_comma);
        }
        more = records.next(&mut record)?;
    }
    Ok(())
}
